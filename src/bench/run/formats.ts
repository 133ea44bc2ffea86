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
import * as v from 'valibot';
import type { CostPoint } from '../../decoding/policy/costCurve.js';
import { stageNames } from '../../decoding/statistics.js';
import type { StageTimes } from '../../decoding/types.js';
import { decodingTable } from '../../engine/options/decodingOptions.js';
import {
  across,
  choice,
  count,
  flag,
  list,
  nullable,
  number,
  numbers,
  object,
  record,
  text,
  type Schema,
} from '../../util/json.js';
import type { QuestionId } from '../questions/parse.js';
import { decodingSchema } from './decodingSchema.js';

export type Stage = keyof StageTimes;

/** Rank of the token that really came: not in the head's list, after the end of the generation, heads not run. */
export const RANK = { outside: -1, unknown: -2, notRun: -3 } as const;

/** No path of a tree is longer. */
const DEPTH = decodingTable.nodes.range.maximum;
const TOKENS = { minimum: 0, maximum: 2 ** 31 - 1 };
const times = numbers({ whole: false });
const counts = (maximum?: number): Schema<number[]> => numbers({ minimum: 0, maximum });

/** Checks that lists have as many items as they should. */
const lengths = <T extends object>(expected: (value: T) => [length: number, ...path: string[]][]) =>
  across<T>((value) => {
    for (const [length, ...at] of expected(value)) {
      const found = at.reduce<unknown>((each, key) => (each as Record<string, unknown>)[key], value);
      if ((found as unknown[]).length !== length) return { at, expected: `a list of ${length} numbers` };
    }
    return undefined;
  });

export const questionId = v.custom<QuestionId>(
  (id) => (typeof id === 'string' && id !== '') || Number.isSafeInteger(id),
  'a whole number or a text',
);

/** The question of any line, whatever else it holds. */
export const idLine = object({ question_id: questionId });

/** One choice of FastChat's answer format; Medusa added idxs, new_tokens and wall_time. */
const answerChoice = object({
  index: count(0),
  turns: list(text),
  /** 0-based index of the last verification step: steps = idxs + 1. */
  idxs: numbers(),
  new_tokens: counts(),
  /** Seconds, prefill included. */
  wall_time: times,
});

export const answerLine = object({
  question_id: questionId,
  answer_id: text,
  model_id: text,
  choices: list(answerChoice),
  /** Seconds since 1970. */
  tstamp: number,
});
export type AnswerLine = Readonly<v.InferOutput<typeof answerLine>>;

/** One turn of one repeat. Arrays named `[steps]` have one entry per verification step; times are milliseconds. */
const turnRecord = v.pipe(
  object({
    prompt_tokens: count(0),
    /** The prompt as the model saw it: with it, any generation can be looked into again. */
    prompt_token_ids: numbers(TOKENS),
    /** Prompt tokens found in the KV cache and not computed again. */
    cached_prompt_tokens: count(0),
    token_ids: numbers(TOKENS),
    finish_reason: choice(['eos', 'stop', 'length', 'context', 'aborted']),
    /** Verification runs, prefill excluded. */
    steps: count(0),
    /** [steps] tokens added, bonus included, cut at the end of the generation. */
    accept_lengths: counts(DEPTH + 1),
    /** [steps] nodes verified, root included. */
    node_counts: counts(),
    /** [steps] depth of the deepest node of the tree. */
    tree_depths: counts(DEPTH),
    /** [steps] depth the accepted path reached (not cut). */
    accepted_depths: counts(DEPTH),
    /** Heads that took part; 0 when none did. */
    heads: count(0, decodingTable.headsUsed.range.maximum),
    /** [steps, heads] rank of the token that really came in the head's list, or one of RANK. */
    head_ranks: numbers({
      minimum: Math.min(...Object.values(RANK)),
      maximum: decodingTable.topM.range.maximum,
    }),
    prefill_ms: number,
    first_token_ms: number,
    wall_ms: number,
    /** [steps] by stage. */
    stage_ms: object(
      Object.fromEntries(stageNames.map((stage) => [stage, times])) as Record<Stage, typeof times>,
    ),
  }),
  lengths(({ steps, heads }) => [
    [steps, 'accept_lengths'],
    [steps, 'node_counts'],
    [steps, 'tree_depths'],
    [steps, 'accepted_depths'],
    [steps * heads, 'head_ranks'],
    ...stageNames.map((stage): [number, string, string] => [steps, 'stage_ms', stage]),
  ]),
);
export type TurnRecord = Readonly<v.InferOutput<typeof turnRecord>>;

const repeatRecord = object({
  index: count(0),
  temperature: number,
  turns: list(turnRecord),
  /** Seeds of the turns' random numbers. */
  seeds: numbers(),
});
export type RepeatRecord = Readonly<v.InferOutput<typeof repeatRecord>>;

export const recordLine = object({
  question_id: questionId,
  category: text,
  repeats: v.pipe(list(repeatRecord), v.nonEmpty('a list of at least one repeat')),
});
export type RecordLine = Readonly<v.InferOutput<typeof recordLine>>;

/** A question that could not be asked: it has no answer and no record, and counts nowhere. */
export const skippedLine = object({
  question_id: questionId,
  category: text,
  /** Where it failed: 0-based repeat, 1-based turn. */
  repeat: count(0),
  turn: count(),
  reason: text,
});
export type SkippedLine = Readonly<v.InferOutput<typeof skippedLine>>;

/** One tree of a trace: what is needed to draw it. */
const tracedStep = v.pipe(
  object({
    tokens: numbers(TOKENS),
    /** [nodes] -1 for the root. */
    parents: numbers({ minimum: -1 }),
    /** [nodes] probability that drafting gave the path to the node, 4 digits. */
    probabilities: times,
    /** Accepted rows, root first. */
    accepted: counts(),
    bonus: count(TOKENS.minimum, TOKENS.maximum),
    /** Position of the root among the new tokens. */
    position: count(0, decodingTable.maxNewTokens.range.maximum),
  }),
  lengths(({ tokens }) => [
    [tokens.length, 'parents'],
    [tokens.length, 'probabilities'],
  ]),
  across(({ tokens, ...rows }) => {
    for (const field of ['parents', 'accepted'] as const) {
      const wrong = rows[field].findIndex((row) => row >= tokens.length);
      if (wrong >= 0) return { at: [field, wrong], expected: `a row below ${tokens.length}` };
    }
    return undefined;
  }),
);
export type TracedStep = Readonly<v.InferOutput<typeof tracedStep>>;

/** Trees of the first repeat. */
export const traceLine = object({
  question_id: questionId,
  turns: list(object({ steps: list(tracedStep) })),
  /** Texts of the token ids that occur. */
  texts: record(text),
});
export type TraceLine = Readonly<v.InferOutput<typeof traceLine>>;

/** Everything that must be equal for a folder to be continued. */
const identity = {
  format: v.literal(1, '1 (this version reads no other)'),
  version: text,
  model: object({
    id: text,
    precision: text,
    provider: text,
    heads: nullable(text),
    backbone_sha256: nullable(text),
    heads_sha256: nullable(text),
    tokenizer_sha256: nullable(text),
    source_sha256: nullable(text),
    /** In place of the model's own: a built-in one's name, or a file. */
    chat_template: v.nullish(text, null),
  }),
  decoding: decodingSchema,
  protocol: object({
    /** `fastchat`: by category. */
    temperature: v.union([v.literal('fastchat'), number], 'a number or fastchat'),
    seed: count(0),
    repeats: count(),
    shard: nullable(text),
    /** Whether what drafts learn is kept from question to question. */
    keep_drafts: v.nullish(flag, false),
    /** Whether the chat template was left out. */
    raw: v.nullish(flag, false),
    /** `on` or `off` where it was asked for. */
    thinking: v.nullish(choice(['on', 'off']), null),
    trace: flag,
    model_id: text,
  }),
  questions: object({ name: text, sha256: text, ids: list(questionId) }),
  machine: object({ cpu: text, threads: count(), onnxruntime: text }),
};
export type RunIdentity = Readonly<v.InferOutput<v.ObjectSchema<typeof identity, undefined>>>;

/** One stretch of work on a run: from a start to its end. */
const session = object({
  started: text,
  ended: nullable(text),
  finished_questions: count(0),
  /** 1-minute load average at the start: other work on the machine shows here. */
  load_average: number,
  /** As in `environment`, which has the first session's. Not in older runs. */
  git_commit: v.optional(nullable(text)),
});

const costCurve: Schema<readonly CostPoint[] | null> = v.pipe(
  v.unknown(),
  // Older runs have all of tuning.json, which does not say which of its curves was the run's.
  v.transform((value) => (typeof value === 'object' && !Array.isArray(value) ? null : value)),
  v.nullish(list(object({ nodes: count(), milliseconds: number, perPosition: v.optional(number) })), null),
);

export const runInfo = object({
  ...identity,
  status: choice(['running', 'interrupted', 'failed', 'complete']),
  environment: record(nullable(v.union([text, number], 'a text or a number'))),
  /** Cost of a verification by nodes, measured with this model, provider and threads before the run. */
  cost_curve: costCurve,
  sessions: list(session),
  /** Folders this one was merged from. */
  merged_from: v.optional(list(text)),
  /** Shards that were not among them, as i/n. */
  missing_shards: v.optional(list(text)),
});
export type RunInfo = v.InferOutput<typeof runInfo> & {
  /** What an older run.json has for `cost_curve`: kept where the file is written again. */
  older_costs?: unknown;
};
