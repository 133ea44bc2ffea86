/** Makes the report of a comparison. */
import type { FinishReason } from '../../decoding/types.js';
import { median, sum } from '../../util/numbers.js';
import type { RecordLine } from '../run/formats.js';
import { claimOf } from './claim.js';
import { checkIdentity } from './identity.js';
import type { Comparison, LoadedRun } from './load.js';
import { measureRun, partsOf, turnsOf, type Metric } from './measure.js';
import type { CategoryRow, EndingRow, Pair, Quotients, Report, ReportRun, Sweep } from './report.js';
import { BOOTSTRAP, estimateQuotient, estimateRatio, type Estimate } from './statistics.js';

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
    endings: ENDINGS.flatMap((ending) => endingRow(run, base, ids, ending) ?? []),
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

/** In the order of the report: answers that ended by themselves first. */
const ENDINGS: readonly FinishReason[] = ['eos', 'stop', 'length', 'context', 'aborted'];

/** Undefined when the baseline ended no turn so. */
function endingRow(
  run: LoadedRun,
  base: LoadedRun,
  ids: readonly string[],
  ending: FinishReason,
): EndingRow | undefined {
  const ended = ids
    .map((id) => [turnsEndedSo(run, base, id, ending), turnsEndedSo(base, base, id, ending)] as const)
    .filter(([, before]) => turnsOf(before).length > 0);
  if (ended.length === 0) return undefined;
  const records = ended.map(([own]) => own);
  const turns = records.flatMap(turnsOf);
  return {
    ending,
    turns: turns.length,
    tokens: sum(turns.map((turn) => turn.token_ids.length)),
    tokens_per_step: estimateRatio(partsOf(records, 'tokens_per_step')),
    speed_up:
      run === base
        ? null
        : quotient(
            records,
            ended.map(([, before]) => before),
            'tokens_per_second',
          ),
  };
}

/** A question's record with those turns only that the baseline ended so. */
function turnsEndedSo(run: LoadedRun, base: LoadedRun, id: string, ending: FinishReason): RecordLine {
  const [own, before] = [run.records.get(id)!, base.records.get(id)!];
  const isEndedSo = (repeat: number, turn: number): boolean =>
    before.repeats[repeat]?.turns[turn]?.finish_reason === ending;
  const repeats = own.repeats.map((repeat, index) => ({
    ...repeat,
    turns: repeat.turns.filter((_, turn) => isEndedSo(index, turn)),
  }));
  return { ...own, repeats };
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
