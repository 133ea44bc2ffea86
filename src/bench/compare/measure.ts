/** What one run measured, pooled over its questions. Counting conventions: docs/bench.md. */
import { bestStaticTreeInHindsight, oracleTokensPerStep } from '../../decoding/oracle.js';
import { stageNames } from '../../decoding/statistics.js';
import { RANK, type RecordLine, type Stage, type TurnRecord } from '../run/formats.js';
import { median, sum } from '../../util/numbers.js';
import type { LoadedRun } from './load.js';
import { estimateRatio, type Estimate, type Part } from './statistics.js';

/** The ratios that are reported, each as a question's numerator and denominator. */
export const METRICS = {
  /** Tokens added by verification steps / steps. */
  tokens_per_step: (turn: TurnRecord): Part => ({
    numerator: sum(turn.accept_lengths),
    denominator: turn.steps,
  }),
  /** All new tokens / (steps + 1 prefill). */
  tokens_per_inference: (turn: TurnRecord): Part => ({
    numerator: turn.token_ids.length,
    denominator: turn.steps + 1,
  }),
  /** All new tokens / seconds from prompt to end, prefill included. */
  tokens_per_second: (turn: TurnRecord): Part => ({
    numerator: turn.token_ids.length,
    denominator: turn.wall_ms / 1000,
  }),
  /** Tokens added by verification steps / seconds without the prefill. */
  decode_tokens_per_second: (turn: TurnRecord): Part => ({
    numerator: sum(turn.accept_lengths),
    denominator: (turn.wall_ms - turn.prefill_ms) / 1000,
  }),
} as const;
export type Metric = keyof typeof METRICS;

export interface DepthRow {
  readonly depth: number;
  /** Share of the steps whose tree had a node this deep. */
  readonly offered: number;
  /** Share of the steps that accepted a node this deep. */
  readonly reached: number;
  /** Of the steps that accepted the depth above and had a node this deep somewhere, the share that went on to it. */
  readonly conditional: number;
}

export interface HeadRow {
  readonly head: number;
  readonly samples: number;
  /** Share of steps in which the token that came was first, among the first 5, 10, or in the list at all. */
  readonly top1: number;
  readonly top5: number;
  readonly top10: number;
  readonly listed: number;
}

export interface Oracle {
  /** Tokens per step if every combination of the heads' candidates had been in the tree. */
  readonly tokens_per_step: number;
  /** What the tree took on the same steps. */
  readonly actual: number;
  /** What the best fixed tree of the run's size would have taken, chosen in hindsight on these very steps. */
  readonly best_fixed: number | null;
  readonly steps: number;
}

export interface StageRow {
  readonly stage: Stage | 'prefill' | 'outside';
  readonly seconds: number;
  readonly per_step_ms: number;
  readonly per_token_ms: number;
  readonly share: number;
}

export interface CostPoint {
  readonly nodes: number;
  readonly steps: number;
  /** Median of the whole step and of its backbone run. */
  readonly step_ms: number;
  readonly backbone_ms: number;
}

export interface Measures {
  readonly questions: number;
  readonly turns: number;
  readonly steps: number;
  readonly inferences: number;
  readonly new_tokens: number;
  readonly seconds: number;
  readonly prefill_seconds: number;
  readonly median_first_token_ms: number;
  readonly nodes_per_step: number;
  readonly ratios: Record<Metric, Estimate>;
  /** [i] share of the steps that added i tokens. */
  readonly accept_histogram: readonly number[];
  readonly depths: readonly DepthRow[];
  readonly heads: readonly HeadRow[];
  readonly oracle: Oracle | null;
  readonly stages: readonly StageRow[];
  readonly cost: readonly CostPoint[];
}

export function measureRun(run: LoadedRun, ids: readonly string[]): Measures {
  const records = ids.map((id) => run.records.get(id)!);
  const turns = records.flatMap(turnsOf);
  const seconds = sum(turns.map((turn) => turn.wall_ms)) / 1000;
  return {
    questions: records.length,
    turns: turns.length,
    steps: sum(turns.map((turn) => turn.steps)),
    inferences: sum(turns.map((turn) => turn.steps + 1)),
    new_tokens: sum(turns.map((turn) => turn.token_ids.length)),
    seconds,
    prefill_seconds: sum(turns.map((turn) => turn.prefill_ms)) / 1000,
    median_first_token_ms: median(turns.map((turn) => turn.first_token_ms)),
    nodes_per_step: mean(turns.flatMap((turn) => turn.node_counts)),
    ratios: Object.fromEntries(
      (Object.keys(METRICS) as Metric[]).map((metric) => [metric, estimateRatio(partsOf(records, metric))]),
    ) as Record<Metric, Estimate>,
    accept_histogram: shares(turns.flatMap((turn) => turn.accept_lengths)),
    depths: depthRows(turns),
    heads: headRows(turns),
    oracle: oracleOf(turns, run.info.decoding.nodes),
    stages: stageRows(turns),
    cost: costPoints(turns),
  };
}

export function turnsOf(record: RecordLine): TurnRecord[] {
  return record.repeats.flatMap((repeat) => repeat.turns);
}

/** [questions] sums of a metric: all turns and repeats of a question together, for they are not independent. */
export function partsOf(records: readonly RecordLine[], metric: Metric): Part[] {
  return records.map((record) => {
    const parts = turnsOf(record).map(METRICS[metric]);
    return {
      numerator: sum(parts.map((part) => part.numerator)),
      denominator: sum(parts.map((part) => part.denominator)),
    };
  });
}

function shares(lengths: readonly number[]): number[] {
  const counts: number[] = [];
  for (const length of lengths) counts[length] = (counts[length] ?? 0) + 1;
  return Array.from(counts, (count) => (count ?? 0) / lengths.length);
}

function depthRows(turns: readonly TurnRecord[]): DepthRow[] {
  const offered = turns.flatMap((turn) => turn.tree_depths);
  const accepted = turns.flatMap((turn) => turn.accepted_depths);
  const deepest = offered.reduce((most, depth) => Math.max(most, depth), 0);
  return Array.from({ length: deepest }, (_, index) => {
    const depth = index + 1;
    const able = accepted.filter((reached, step) => reached >= depth - 1 && offered[step] >= depth).length;
    const reached = accepted.filter((value) => value >= depth).length;
    return {
      depth,
      offered: offered.filter((value) => value >= depth).length / offered.length,
      reached: reached / accepted.length,
      conditional: able === 0 ? 0 : reached / able,
    };
  });
}

/** [steps] rows of known ranks of the turns whose heads ran. */
function rankRows(turn: TurnRecord): { ranks: number[]; added: number }[] {
  if (turn.heads === 0) return [];
  return turn.accept_lengths.flatMap((added, step) => {
    const ranks = turn.head_ranks.slice(step * turn.heads, (step + 1) * turn.heads);
    return ranks.every((rank) => rank === RANK.notRun) ? [] : [{ ranks, added }];
  });
}

function headRows(turns: readonly TurnRecord[]): HeadRow[] {
  const rows = turns.flatMap(rankRows);
  const heads = Math.max(0, ...turns.map((turn) => turn.heads));
  return Array.from({ length: heads }, (_, head) => {
    const ranks = rows
      .map((row) => row.ranks[head])
      .filter((rank) => rank !== undefined && rank >= RANK.outside);
    const within = (count: number): number =>
      ranks.filter((rank) => rank >= 0 && rank < count).length / Math.max(1, ranks.length);
    return {
      head: head + 1,
      samples: ranks.length,
      top1: within(1),
      top5: within(5),
      top10: within(10),
      listed: within(Infinity),
    };
  });
}

function oracleOf(turns: readonly TurnRecord[], nodes: number | 'auto'): Oracle | null {
  const rows = turns.flatMap(rankRows).filter(({ ranks }) => !ranks.includes(RANK.unknown));
  if (rows.length === 0) return null;
  const paths = rows.map(({ ranks }) => {
    const miss = ranks.findIndex((rank) => rank < 0);
    return miss < 0 ? ranks : ranks.slice(0, miss);
  });
  return {
    tokens_per_step: oracleTokensPerStep(paths),
    actual: mean(rows.map((row) => row.added)),
    best_fixed: nodes === 'auto' ? null : bestStaticTreeInHindsight(paths, nodes).tokensPerStep,
    steps: rows.length,
  };
}

/** `outside` is what the wall clock saw beyond the prefill and the stages of the steps. */
function stageRows(turns: readonly TurnRecord[]): StageRow[] {
  const wall = sum(turns.map((turn) => turn.wall_ms));
  const prefill = sum(turns.map((turn) => turn.prefill_ms));
  const stages = stageNames.map(
    (stage) => [stage, sum(turns.flatMap((turn) => turn.stage_ms[stage]))] as const,
  );
  const outside = Math.max(0, wall - prefill - sum(stages.map(([, time]) => time)));
  const steps = sum(turns.map((turn) => turn.steps));
  const tokens = sum(turns.map((turn) => turn.token_ids.length));
  return [['prefill', prefill] as const, ...stages, ['outside', outside] as const].map(([stage, time]) => ({
    stage,
    seconds: time / 1000,
    per_step_ms: steps === 0 ? 0 : time / steps,
    per_token_ms: tokens === 0 ? 0 : time / tokens,
    share: wall === 0 ? 0 : time / wall,
  }));
}

/** Time of a step by the number of nodes it verified, as this run saw it. */
function costPoints(turns: readonly TurnRecord[]): CostPoint[] {
  const groups = new Map<number, { step: number[]; backbone: number[] }>();
  for (const turn of turns) {
    turn.node_counts.forEach((nodes, step) => {
      const group = groups.get(nodes) ?? { step: [], backbone: [] };
      group.step.push(sum(stageNames.map((stage) => turn.stage_ms[stage][step])));
      group.backbone.push(turn.stage_ms.backbone[step]);
      groups.set(nodes, group);
    });
  }
  return [...groups]
    .sort(([a], [b]) => a - b)
    .map(([nodes, { step, backbone }]) => ({
      nodes,
      steps: step.length,
      step_ms: median(step),
      backbone_ms: median(backbone),
    }));
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length;
}
