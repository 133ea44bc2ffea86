/** What the HTML report carries along. */
import type { Report } from '../../compare/report.js';

export interface PageData {
  readonly report: Report;
  /** Names of the runs in the order of their colours; the base line is the first. */
  readonly runs: readonly string[];
  readonly generations: readonly PageGeneration[];
  readonly traces: readonly PageTrace[];
  /** Texts of token ids in the traces. */
  readonly texts: Readonly<Record<string, string>>;
}

/** Accept lengths of one turn, by run. */
export interface PageGeneration {
  readonly question: string;
  readonly category: string;
  readonly turn: number;
  /** One character a step, base 36. */
  readonly lengths: Readonly<Record<string, string>>;
}

/** Trees of one turn, by run. */
export interface PageTrace {
  readonly question: string;
  readonly category: string;
  readonly turn: number;
  readonly steps: Readonly<Record<string, readonly PageStep[]>>;
  /** New tokens of the turn, as texts, as far as the trees go. */
  readonly tokens: readonly string[];
}

export interface PageStep {
  /** Position of the root among the new tokens. */
  readonly position: number;
  readonly tokens: readonly number[];
  readonly parents: readonly number[];
  readonly probabilities: readonly number[];
  readonly accepted: readonly number[];
  readonly bonus: number;
}
