/** The whole comparison as data: report.json is this, and every other report is drawn from it. */
import type { RecordLine, RunInfo } from '../run/formats.js';
import { claimOf } from './claim.js';
import { checkIdentity, type IdentityResult } from './identity.js';
import type { Comparison, LoadedRun } from './load.js';
import { measureRun, partsOf, turnsOf, type Measures, type Metric } from './measure.js';
import { BOOTSTRAP, estimateQuotient, estimateRatio, median, sum, type Estimate } from './statistics.js';

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
  /** Over the base line; null for the base line itself. */
  readonly speed_up: Estimate | null;
  /** Questions in this category that were decoded at temperature 0. */
  readonly temperature: number;
}

export interface ReportRun extends Measures {
  readonly name: string;
  readonly folder: string;
  readonly decoding: RunInfo['decoding'];
  readonly model: RunInfo['model'];
  readonly machine: RunInfo['machine'];
  readonly environment: RunInfo['environment'];
  readonly cost_curve: unknown;
  readonly over_base: Quotients | null;
  readonly categories: readonly CategoryRow[];
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
  readonly bootstrap: typeof BOOTSTRAP;
  readonly claim: string;
  readonly notes: readonly string[];
  readonly identity: readonly IdentityResult[];
  readonly runs: readonly ReportRun[];
  /** Every two runs with a tree against each other, the later over the earlier. */
  readonly pairs: readonly Pair[];
  readonly sweep: Sweep | null;
}

export function makeReport(comparison: Comparison, version: string, sweep: Sweep | null = null): Report {
  const { runs, ids, notes } = comparison;
  const [base] = runs;
  const drafting = runs.filter((run) => run.info.decoding.tree !== 'none');
  const identity = checkIdentity(comparison);
  const partial = {
    format: 1,
    made: new Date().toISOString(),
    version,
    base: base.name,
    questions: { name: base.info.questions.name, sha256: base.info.questions.sha256, count: ids.length },
    protocol: base.info.protocol,
    max_new_tokens: base.info.decoding.maxNewTokens,
    bootstrap: BOOTSTRAP,
    notes,
    identity,
    runs: runs.map((run) => reportRun(run, base, ids)),
    pairs: sweep ? [] : pairsOf(drafting, ids),
    sweep,
  } as const;
  return { ...partial, claim: claimOf(partial) };
}

function reportRun(run: LoadedRun, base: LoadedRun, ids: readonly string[]): ReportRun {
  const { decoding, model, machine, environment, cost_curve } = run.info;
  return {
    name: run.name,
    folder: run.folder,
    decoding,
    model,
    machine,
    environment,
    cost_curve,
    ...measureRun(run, ids),
    over_base: run === base ? null : quotients(recordsOf(run, ids), recordsOf(base, ids)),
    categories: categoryIds(base, ids).map(([category, own]) => categoryRow(run, base, category, own)),
  };
}

function categoryRow(run: LoadedRun, base: LoadedRun, category: string, ids: readonly string[]): CategoryRow {
  const [records, baseRecords] = [recordsOf(run, ids), recordsOf(base, ids)];
  return {
    category,
    questions: ids.length,
    temperature: records[0].repeats[0].temperature,
    tokens_per_step: estimateRatio(partsOf(records, 'tokens_per_step')),
    tokens_per_second: estimateRatio(partsOf(records, 'tokens_per_second')),
    speed_up: run === base ? null : quotient(records, baseRecords, 'tokens_per_second'),
  };
}

/** Categories in the order of the questions. */
function categoryIds(run: LoadedRun, ids: readonly string[]): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const id of ids) {
    const { category } = run.records.get(id)!;
    groups.set(category, [...(groups.get(category) ?? []), id]);
  }
  return [...groups];
}

function pairsOf(runs: readonly LoadedRun[], ids: readonly string[]): Pair[] {
  return runs.flatMap((run, index) =>
    runs.slice(0, index).map((against) => ({
      run: run.name,
      against: against.name,
      quotients: quotients(recordsOf(run, ids), recordsOf(against, ids)),
      categories: categoryIds(run, ids).map(([category, own]) => ({
        category,
        tokens_per_step: quotient(recordsOf(run, own), recordsOf(against, own), 'tokens_per_step'),
      })),
    })),
  );
}

function quotients(records: readonly RecordLine[], base: readonly RecordLine[]): Quotients {
  return {
    tokens_per_step: quotient(records, base, 'tokens_per_step'),
    tokens_per_inference: quotient(records, base, 'tokens_per_inference'),
    tokens_per_second: quotient(records, base, 'tokens_per_second'),
    decode_tokens_per_second: quotient(records, base, 'decode_tokens_per_second'),
    median_tokens_per_second: median(records.map((record, index) => rate(record) / rate(base[index]))),
  };
}

function quotient(records: readonly RecordLine[], base: readonly RecordLine[], metric: Metric): Estimate {
  return estimateQuotient(partsOf(records, metric), partsOf(base, metric));
}

function rate(record: RecordLine): number {
  const turns = turnsOf(record);
  return sum(turns.map((turn) => turn.token_ids.length)) / sum(turns.map((turn) => turn.wall_ms));
}

function recordsOf(run: LoadedRun, ids: readonly string[]): RecordLine[] {
  return ids.map((id) => run.records.get(id)!);
}
