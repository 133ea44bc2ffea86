/** Gathers one turn's steps while the engine decodes, and turns them into a record. */
import type { CandidateTree, DecodeStep, HeadProposals } from '../../decoding/types.js';
import type { GenerationResult } from '../../engine/engine.js';
import { stageNames } from '../../decoding/statistics.js';
import { RANK, type Stage, type TracedStep, type TurnRecord } from './formats.js';

interface Collected {
  /** New tokens before this step. */
  readonly position: number;
  readonly added: number;
  readonly nodes: number;
  readonly treeDepth: number;
  readonly acceptedDepth: number;
  /** Copied, for the loop may reuse its buffers. */
  readonly proposals?: { readonly heads: number; readonly topM: number; readonly ids: Int32Array };
  /** The loop's own object: the last stage is only known when the next step begins. */
  readonly times: Readonly<Record<Stage, number>>;
  readonly traced?: TreeCopy;
}

/** A tree as it was, before the loop reuses its buffers. */
interface TreeCopy {
  readonly tokens: Int32Array;
  readonly parents: Int32Array;
  readonly probabilities: Float32Array;
  readonly accepted: readonly number[];
  readonly bonus: number;
  readonly position: number;
}

/** Steps of a turn whose trees are kept; enough to look at, and files stay small. */
const TRACED_STEPS = 40;

export class TurnCollector {
  private readonly steps: Collected[] = [];
  private tokens = 0;

  constructor(private readonly trace: boolean) {}

  /** To be given to the engine as `onStep`. */
  readonly onStep = (step: DecodeStep): void => {
    if (step.tree && step.accepted)
      this.steps.push(this.collect(step, step.tree, step.accepted.rows, step.accepted.bonus));
    this.tokens += step.tokens.length;
  };

  private collect(step: DecodeStep, tree: CandidateTree, rows: readonly number[], bonus: number): Collected {
    return {
      position: this.tokens,
      added: step.tokens.length,
      nodes: tree.size,
      treeDepth: tree.depths.subarray(0, tree.size).reduce((deepest, depth) => Math.max(deepest, depth), 0),
      acceptedDepth: rows.length - 1,
      ...(step.proposals ? { proposals: copyIds(step.proposals) } : {}),
      times: step.times,
      ...(this.trace && this.steps.length < TRACED_STEPS
        ? { traced: copyTree(tree, rows, bonus, this.tokens - 1) }
        : {}),
    };
  }

  /** The turn's record, once its real tokens are known. */
  record(result: GenerationResult): TurnRecord {
    const { statistics } = result;
    const heads = Math.max(0, ...this.steps.map((step) => step.proposals?.heads ?? 0));
    return {
      prompt_tokens: statistics.promptTokens,
      prompt_token_ids: [...result.promptTokenIds],
      cached_prompt_tokens: statistics.cachedPromptTokens,
      token_ids: [...result.tokenIds],
      finish_reason: statistics.finishReason,
      steps: this.steps.length,
      accept_lengths: this.steps.map((step) => step.added),
      node_counts: this.steps.map((step) => step.nodes),
      tree_depths: this.steps.map((step) => step.treeDepth),
      accepted_depths: this.steps.map((step) => step.acceptedDepth),
      heads,
      head_ranks: this.steps.flatMap((step) => headRanks(step, heads, result.tokenIds)),
      prefill_ms: round(statistics.prefillTime),
      first_token_ms: round(result.timeToFirstToken),
      wall_ms: round(statistics.wallTime),
      stage_ms: Object.fromEntries(
        stageNames.map((stage) => [stage, this.steps.map((step) => round(step.times[stage]))]),
      ) as Record<Stage, number[]>,
    };
  }

  traced(): TracedStep[] {
    return this.steps.flatMap((step) => (step.traced ? traceStep(step.traced) : []));
  }
}

/** Head k speaks about the token k + 1 positions after the root, and the root is the token before the step's. */
function headRanks(step: Collected, heads: number, tokens: readonly number[]): number[] {
  return Array.from({ length: heads }, (_, head) => {
    if (!step.proposals || head >= step.proposals.heads) return RANK.notRun;
    const position = step.position + head;
    if (position >= tokens.length) return RANK.unknown;
    const { topM, ids } = step.proposals;
    const rank = ids.subarray(head * topM, (head + 1) * topM).indexOf(tokens[position]);
    return rank < 0 ? RANK.outside : rank;
  });
}

function copyIds({ heads, topM, ids }: HeadProposals): { heads: number; topM: number; ids: Int32Array } {
  return { heads, topM, ids: ids.slice(0, heads * topM) };
}

function copyTree(
  tree: CandidateTree,
  accepted: readonly number[],
  bonus: number,
  position: number,
): TreeCopy {
  return {
    tokens: tree.tokens.slice(0, tree.size),
    parents: tree.parents.slice(0, tree.size),
    probabilities: tree.probabilities.slice(0, tree.size),
    accepted: [...accepted],
    bonus,
    position,
  };
}

function traceStep({ tokens, parents, probabilities, accepted, bonus, position }: TreeCopy): TracedStep {
  return {
    tokens: [...tokens],
    parents: [...parents],
    probabilities: Array.from(probabilities, (value) => Number(value.toPrecision(4))),
    accepted: [...accepted],
    bonus,
    position,
  };
}

/** Microseconds are as fine as a record needs. */
function round(milliseconds: number): number {
  return Math.round(milliseconds * 1000) / 1000;
}
