/** The whole comparison as data: report.json is this, and every other report is drawn from it. */
import type { FinishReason } from '../../decoding/types.js';
import type { RunInfo } from '../run/formats.js';
import type { IdentityResult } from './identity.js';
import type { Measures } from './measure.js';
import type { BootstrapOptions, Estimate } from './statistics.js';

/** One run against another. */
export interface Quotients {
  readonly tokens_per_step: Estimate;
  readonly tokens_per_inference: Estimate;
  /** Quotient of tokens/s: above 1 is faster. */
  readonly tokens_per_second: Estimate;
  readonly decode_tokens_per_second: Estimate;
  /** Median over questions of the quotient of tokens/s: what a typical question sees. */
  readonly median_tokens_per_second: number;
}

export interface CategoryRow {
  readonly category: string;
  readonly questions: number;
  readonly tokens_per_step: Estimate;
  readonly tokens_per_second: Estimate;
  /** Over the baseline; null for the baseline itself. */
  readonly speed_up: Estimate | null;
  /** Questions in this category that were decoded at temperature 0. */
  readonly temperature: number;
}

/** The turns that the baseline ended in one way, as this run decoded them. */
export interface EndingRow {
  /** How the baseline's turns ended. */
  readonly ending: FinishReason;
  readonly turns: number;
  /** New tokens of this run. */
  readonly tokens: number;
  readonly tokens_per_step: Estimate;
  /** Over the baseline; null for the baseline itself. */
  readonly speed_up: Estimate | null;
}

export interface ReportRun extends Measures {
  readonly name: string;
  readonly folder: string;
  readonly decoding: RunInfo['decoding'];
  readonly model: RunInfo['model'];
  readonly machine: RunInfo['machine'];
  readonly environment: RunInfo['environment'];
  readonly cost_curve: RunInfo['cost_curve'];
  readonly over_base: Quotients | null;
  readonly categories: readonly CategoryRow[];
  readonly endings: readonly EndingRow[];
}

export interface Pair {
  readonly run: string;
  readonly against: string;
  readonly quotients: Quotients;
  readonly categories: readonly { readonly category: string; readonly tokens_per_step: Estimate }[];
}

export interface SweepPoint {
  readonly series: string;
  readonly value: string;
  readonly run: string;
}

export interface Sweep {
  readonly parameter: string;
  readonly points: readonly SweepPoint[];
}

export interface Report {
  readonly format: 1;
  readonly made: string;
  readonly version: string;
  readonly base: string;
  readonly questions: { readonly name: string; readonly sha256: string; readonly count: number };
  readonly protocol: RunInfo['protocol'];
  readonly max_new_tokens: number;
  readonly bootstrap: BootstrapOptions;
  readonly claim: string;
  readonly notes: readonly string[];
  readonly identity: readonly IdentityResult[];
  readonly runs: readonly ReportRun[];
  /** Every two runs with a tree against each other, the later over the earlier. */
  readonly pairs: readonly Pair[];
  readonly sweep: Sweep | null;
}
