/** Are the outputs the same? Checked before any number is believed. */
import type { TurnRecord } from '../run/formats.js';
import type { Comparison, LoadedRun } from './load.js';

/** The first mismatch of two runs in a conversation. */
export interface Mismatch {
  readonly question_id: string;
  /** 0-based. */
  readonly repeat: number;
  readonly turn: number;
  /** Position among the new tokens of the turn. */
  readonly position: number;
  /** The tokens that differ; null where one run had ended. */
  readonly tokens: readonly [number | null, number | null];
  /** New tokens both have before. */
  readonly common: readonly number[];
  /** Up to 24 tokens of each run from the difference on. */
  readonly continuations: readonly [readonly number[], readonly number[]];
  /** Filled in where a model was at hand. */
  explained?: MismatchExplanation;
}

export interface MismatchExplanation {
  readonly texts: readonly [string, string];
  readonly before: string;
  /** Logits of the two tokens after the common prefix, and their distance. */
  readonly logits?: readonly [number, number];
  readonly gap?: number;
}

export interface IdentityResult {
  readonly run: string;
  /** `same`, `different`, or why there was nothing to check. */
  readonly outcome: 'same' | 'different' | 'not-checked';
  readonly reason?: string;
  /** Whether equal outputs were sure beforehand: not where rows depend on the rows beside them (`exact_rows` of run.json). */
  readonly isSure: boolean;
  /** Turns compared, their equal tokens, and conversations (a question's repeats are several). */
  readonly turns: number;
  readonly tokens: number;
  readonly questions: number;
  readonly mismatches: readonly Mismatch[];
}

const CONTINUATION = 24;

/** Compares every run with the baseline, on the generations that both decoded greedily. */
export function checkIdentity(comparison: Comparison): IdentityResult[] {
  const [base, ...others] = comparison.runs;
  return others.map((run) => checkRun(base, run, comparison.ids));
}

function checkRun(base: LoadedRun, run: LoadedRun, ids: readonly string[]): IdentityResult {
  const reason = notComparable(base, run);
  const isSure = [base, run].every(({ info }) => info.environment.exact_rows !== 'no');
  const counts = { isSure, turns: 0, tokens: 0, questions: 0 };
  const mismatches: Mismatch[] = [];
  if (reason !== undefined) return { run: run.name, outcome: 'not-checked', reason, ...counts, mismatches };
  for (const id of ids) {
    const [left, right] = [base.records.get(id)!.repeats, run.records.get(id)!.repeats];
    left.forEach((repeat, index) => {
      if (repeat.temperature !== 0 || right[index]?.temperature !== 0) return;
      counts.questions++;
      const mismatch = compareTurns(id, index, repeat.turns, right[index].turns, counts);
      if (mismatch) mismatches.push(mismatch);
    });
  }
  if (counts.questions === 0) {
    const nothing = 'no question was decoded at temperature 0';
    return { run: run.name, outcome: 'not-checked', reason: nothing, ...counts, mismatches };
  }
  return { run: run.name, outcome: mismatches.length === 0 ? 'same' : 'different', ...counts, mismatches };
}

function notComparable(base: LoadedRun, run: LoadedRun): string | undefined {
  const [left, right] = [base.info.model, run.info.model];
  if (left.backbone_sha256 !== right.backbone_sha256 || left.precision !== right.precision) {
    return `another backbone (${right.precision} instead of ${left.precision})`;
  }
  return left.provider === right.provider ? undefined : `another provider (${right.provider})`;
}

/** The first difference of a conversation; later turns see other text and are not compared. */
function compareTurns(
  id: string,
  repeat: number,
  left: readonly TurnRecord[],
  right: readonly TurnRecord[],
  counts: { turns: number; tokens: number },
): Mismatch | undefined {
  for (let turn = 0; turn < Math.max(left.length, right.length); turn++) {
    const [a, b] = [left[turn]?.token_ids ?? [], right[turn]?.token_ids ?? []];
    const position = firstDifferent(a, b);
    counts.turns++;
    counts.tokens += position ?? a.length;
    if (position !== undefined) {
      return {
        question_id: id,
        repeat,
        turn,
        position,
        tokens: [a[position] ?? null, b[position] ?? null],
        common: a.slice(0, position),
        continuations: [
          a.slice(position, position + CONTINUATION),
          b.slice(position, position + CONTINUATION),
        ],
      };
    }
  }
  return undefined;
}

/** The first position in which two lists differ, their ends included. */
export function firstDifferent(a: readonly number[], b: readonly number[]): number | undefined {
  const shared = Math.min(a.length, b.length);
  for (let index = 0; index < shared; index++) if (a[index] !== b[index]) return index;
  return a.length === b.length ? undefined : shared;
}
