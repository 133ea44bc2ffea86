/**
 * What lies in a run folder. Field names are those of the files; the counting conventions are in docs/bench.md.
 *
 * answers.jsonl   one line a question, FastChat's model answers with Medusa's counts
 * records.jsonl   one line a question, in the same order: token ids and per-step figures
 * trace.jsonl     only with --trace: the candidate trees
 * skipped.jsonl   one line a question that could not be asked
 * questions.jsonl the question file, as it was asked
 * run.json        what was run, where, and how it ended
 */
import type { CostPoint } from '../../decoding/policy/costCurve.js';
import type { FinishReason, StageTimes } from '../../decoding/types.js';
import type { ResolvedDecodingOptions } from '../../engine/options/decodingOptions.js';
import type { QuestionId } from '../questions/parse.js';

/** The stages of a step in the order they are reported. */
export const STAGES = [
  'heads',
  'tree',
  'backbone',
  'accept',
  'keep',
  'rest',
] as const satisfies readonly (keyof StageTimes)[];
export type Stage = (typeof STAGES)[number];

/** One choice of FastChat's answer format; Medusa added idxs, new_tokens and wall_time. */
export interface AnswerChoice {
  readonly index: number;
  readonly turns: string[];
  /** 0-based index of the last verification step: steps = idxs + 1. */
  readonly idxs: number[];
  readonly new_tokens: number[];
  /** Seconds, prefill included. */
  readonly wall_time: number[];
}

export interface AnswerLine {
  readonly question_id: QuestionId;
  readonly answer_id: string;
  readonly model_id: string;
  readonly choices: AnswerChoice[];
  /** Seconds since 1970. */
  readonly tstamp: number;
}

/** One turn of one repeat. Arrays named `[steps]` have one entry per verification step; times are milliseconds. */
export interface TurnRecord {
  readonly prompt_tokens: number;
  /** The prompt as the model saw it: with it, any generation can be looked into again. */
  readonly prompt_token_ids: number[];
  /** Prompt tokens found in the KV cache and not computed again. */
  readonly cached_prompt_tokens: number;
  readonly token_ids: number[];
  readonly finish_reason: FinishReason;
  /** Verification runs, prefill excluded. */
  readonly steps: number;
  /** [steps] tokens added, bonus included, cut at the end of the generation. */
  readonly accept_lengths: number[];
  /** [steps] nodes verified, root included. */
  readonly node_counts: number[];
  /** [steps] depth of the deepest node of the tree. */
  readonly tree_depths: number[];
  /** [steps] depth the accepted path reached (not cut). */
  readonly accepted_depths: number[];
  /** Heads that took part; 0 when none did. */
  readonly heads: number;
  /**
   * [steps, heads] rank of the token that really came in the head's list; -1: not in the list; -2: the generation ended
   * before it; -3: the heads were not run.
   */
  readonly head_ranks: number[];
  readonly prefill_ms: number;
  readonly first_token_ms: number;
  readonly wall_ms: number;
  /** [steps] by stage. */
  readonly stage_ms: Record<Stage, number[]>;
}

export interface RepeatRecord {
  readonly index: number;
  readonly temperature: number;
  readonly turns: TurnRecord[];
  /** Seeds of the turns' random numbers. */
  readonly seeds: number[];
}

export interface RecordLine {
  readonly question_id: QuestionId;
  readonly category: string;
  readonly repeats: RepeatRecord[];
}

/** A question that could not be asked: it has no answer and no record, and counts nowhere. */
export interface SkippedLine {
  readonly question_id: QuestionId;
  readonly category: string;
  /** Where it failed: 0-based repeat, 1-based turn. */
  readonly repeat: number;
  readonly turn: number;
  readonly reason: string;
}

/** One tree of a trace: what is needed to draw it. */
export interface TracedStep {
  readonly tokens: number[];
  readonly parents: number[];
  /** Probability that drafting gave the path to the node, 4 digits. */
  readonly probabilities: number[];
  /** Accepted rows, root first. */
  readonly accepted: number[];
  readonly bonus: number;
  /** Position of the root among the new tokens. */
  readonly position: number;
}

/** Trees of the first repeat. */
export interface TraceLine {
  readonly question_id: QuestionId;
  readonly turns: { readonly steps: TracedStep[] }[];
  /** Texts of the token ids that occur. */
  readonly texts: Record<string, string>;
}

/** The decoding options that make a run what it is; seed and temperature are set per question. */
export type RunDecoding = Omit<ResolvedDecodingOptions, 'temperature' | 'acceptance' | 'seed'> & {
  /** `auto`: greedy at temperature 0, sampling above. */
  readonly acceptance: string;
};

/** Everything that must be equal for a folder to be continued. */
export interface RunIdentity {
  readonly format: 1;
  readonly version: string;
  readonly model: {
    readonly id: string;
    readonly precision: string;
    readonly provider: string;
    readonly heads: string | null;
    readonly backbone_sha256: string | null;
    readonly heads_sha256: string | null;
    readonly tokenizer_sha256: string | null;
    readonly source_sha256: string | null;
  };
  readonly decoding: RunDecoding;
  readonly protocol: {
    /** A number, or `fastchat`: by category. */
    readonly temperature: number | 'fastchat';
    readonly seed: number;
    readonly repeats: number;
    readonly shard: string | null;
    readonly trace: boolean;
    readonly model_id: string;
  };
  readonly questions: { readonly name: string; readonly sha256: string; readonly ids: QuestionId[] };
  readonly machine: { readonly cpu: string; readonly threads: number; readonly onnxruntime: string };
}

/** One stretch of work on a run: from a start to its end. */
export interface RunSession {
  readonly started: string;
  ended: string | null;
  finished_questions: number;
  /** 1-minute load average at the start: other work on the machine shows here. */
  readonly load_average: number;
}

export interface RunInfo extends RunIdentity {
  status: 'running' | 'interrupted' | 'failed' | 'complete';
  readonly environment: Record<string, string | number | null>;
  /** Cost of a verification by nodes, measured with this model, provider and threads before the run; null in older runs. */
  readonly cost_curve: readonly CostPoint[] | null;
  sessions: RunSession[];
  /** Folders this one was merged from. */
  merged_from?: string[];
  /** Shards that were not among them, as i/n. */
  missing_shards?: string[];
}
