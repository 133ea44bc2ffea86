import type { DecodeStatistics, DecodeStep, FinishReason, StageTimes } from './types.js';

/** The stages of a step in the order they are reported. */
export const stageNames = [
  'heads',
  'tree',
  'backbone',
  'accept',
  'keep',
  'rest',
] as const satisfies readonly (keyof StageTimes)[];

export function noTimes(): StageTimes {
  return { heads: 0, tree: 0, backbone: 0, accept: 0, keep: 0, rest: 0 };
}

/** Adds `times` to `total` in place. */
function addTimes(total: StageTimes, times: StageTimes): void {
  for (const stage of stageNames) total[stage] += times[stage];
}

function totalTime(times: StageTimes): number {
  return stageNames.reduce((sum, stage) => sum + times[stage], 0);
}

/** What the loop knows beside its steps. Times in milliseconds. */
export interface GenerationFacts {
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly finishReason: FinishReason;
  readonly prefillTime: number;
  readonly wallTime: number;
}

/**
 * Counts one generation. `steps` are what the loop yielded, prefill (index 0, its token counts as new but not as a
 * step's) included; the part of `wallTime` in no step's times is added to `rest`.
 */
export function summarize(steps: readonly DecodeStep[], facts: GenerationFacts): DecodeStatistics {
  const verified = steps.filter((step) => step.tree !== undefined);
  const acceptLengths = verified.map((step) => step.tokens.length);
  const newTokens = steps.reduce((sum, step) => sum + step.tokens.length, 0);
  const times = noTimes();
  for (const step of verified) addTimes(times, step.times);
  times.rest += Math.max(0, facts.wallTime - facts.prefillTime - totalTime(times));
  return {
    ...facts,
    newTokens,
    steps: verified.length,
    inferences: verified.length + 1,
    tokensPerStep: ratio(sum(acceptLengths), verified.length),
    tokensPerInference: ratio(newTokens, verified.length + 1),
    acceptLengths,
    nodeCounts: verified.map((step) => step.tree!.size),
    times,
  };
}

/** Statistics over several generations, each ratio pooled over all their steps rather than averaged. */
export interface PooledStatistics {
  readonly generations: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly steps: number;
  /** Steps plus one prefill for each generation. */
  readonly inferences: number;
  /** Tokens added by verification steps / steps, prefills excluded. */
  readonly tokensPerStep: number;
  /** All new tokens / inferences. */
  readonly tokensPerInference: number;
  /** Nodes verified / steps. */
  readonly nodesPerStep: number;
  /** [i] steps that added i tokens; [0] is always 0. */
  readonly acceptHistogram: readonly number[];
  /** [d - 1] share of the steps that accepted a node of depth d. */
  readonly acceptanceByDepth: readonly number[];
  readonly times: StageTimes;
  readonly prefillTime: number;
  readonly wallTime: number;
  /** New tokens / second of wall time, prefill included. */
  readonly tokensPerSecond: number;
}

export function pool(generations: readonly DecodeStatistics[]): PooledStatistics {
  const lengths = generations.flatMap((each) => each.acceptLengths);
  const total = (pick: (each: DecodeStatistics) => number): number => sum(generations.map(pick));
  const times = noTimes();
  for (const each of generations) addTimes(times, each.times);
  const newTokens = total((each) => each.newTokens);
  const wallTime = total((each) => each.wallTime);
  return {
    generations: generations.length,
    promptTokens: total((each) => each.promptTokens),
    newTokens,
    steps: lengths.length,
    inferences: lengths.length + generations.length,
    tokensPerStep: ratio(sum(lengths), lengths.length),
    tokensPerInference: ratio(newTokens, lengths.length + generations.length),
    nodesPerStep: ratio(
      total((each) => sum(each.nodeCounts)),
      lengths.length,
    ),
    acceptHistogram: histogram(lengths),
    acceptanceByDepth: acceptanceByDepth(lengths),
    times,
    prefillTime: total((each) => each.prefillTime),
    wallTime,
    tokensPerSecond: ratio(newTokens, wallTime / 1000),
  };
}

/** [i] how often `i` occurs. */
export function histogram(lengths: readonly number[]): number[] {
  const counts = new Array<number>(lengths.reduce((most, length) => Math.max(most, length), 0) + 1).fill(0);
  for (const length of lengths) counts[length]++;
  return counts;
}

/** [d - 1] share of `lengths` (tokens added by each step) with an accepted node of depth d, that is length > d. */
export function acceptanceByDepth(lengths: readonly number[]): number[] {
  const counts = histogram(lengths);
  const shares: number[] = [];
  let deeper = lengths.length - counts[0] - (counts[1] ?? 0);
  for (let length = 2; length < counts.length; length++) {
    shares.push(deeper / lengths.length);
    deeper -= counts[length];
  }
  return shares;
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
