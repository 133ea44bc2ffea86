/** Reads what formats.ts describes. Of any other content the error names the file, the line and the field. */
import type { CostPoint } from '../../decoding/policy/costCurve.js';
import { decodingTable } from '../../engine/options/decodingOptions.js';
import type { FieldReaders, JsonReader } from '../../util/jsonReader.js';
import type { QuestionId } from '../questions/parse.js';
import { RANK } from './collect.js';
import {
  STAGES,
  type AnswerChoice,
  type AnswerLine,
  type RecordLine,
  type RepeatRecord,
  type RunInfo,
  type RunSession,
  type SkippedLine,
  type TracedStep,
  type TraceLine,
  type TurnRecord,
} from './formats.js';
import { readDecoding } from './readDecoding.js';

/** No path of a tree is longer. */
const DEPTH = decodingTable.nodes.range.maximum;
const TOKENS = { minimum: 0, maximum: 2 ** 31 - 1 };
/** Positions among new tokens. */
const POSITION = decodingTable.maxNewTokens.range.maximum;

const text = (reader: JsonReader): string => reader.text();
const textOrNull = (reader: JsonReader): string | null => reader.nullable(text);
const number = (reader: JsonReader): number => reader.number();
const count = (reader: JsonReader): number => reader.count(0);
const flag = (reader: JsonReader): boolean => reader.boolean();

export function readQuestionId(reader: JsonReader): QuestionId {
  const id = reader.any();
  if ((typeof id === 'string' && id !== '') || (typeof id === 'number' && Number.isSafeInteger(id)))
    return id;
  throw reader.error('a whole number or a text');
}

/** The question of any line, whatever else it holds. */
export function readIdOnly(line: JsonReader): { question_id: QuestionId } {
  return { question_id: readQuestionId(line.field('question_id')) };
}

const choice: FieldReaders<AnswerChoice> = {
  index: count,
  turns: (turns) => turns.list(text),
  idxs: (idxs) => idxs.numbers(),
  new_tokens: (tokens) => tokens.numbers({ minimum: 0 }),
  wall_time: (times) => times.numbers({ whole: false }),
};

const answer: FieldReaders<AnswerLine> = {
  question_id: readQuestionId,
  answer_id: text,
  model_id: text,
  choices: (choices) => choices.list((each) => each.fields(choice)),
  tstamp: number,
};

export const readAnswer = (line: JsonReader): AnswerLine => line.fields(answer);

/** Readers of a turn whose lists have an entry for each of its steps. */
function turnOf(steps: number, heads: number): FieldReaders<TurnRecord> {
  const counts = (list: JsonReader, maximum?: number): number[] =>
    list.numbers({ minimum: 0, maximum, length: steps });
  const times = (list: JsonReader): number[] => list.numbers({ whole: false, length: steps });
  return {
    prompt_tokens: count,
    prompt_token_ids: (ids) => ids.numbers(TOKENS),
    cached_prompt_tokens: count,
    token_ids: (ids) => ids.numbers(TOKENS),
    finish_reason: (reason) => reason.choice(['eos', 'stop', 'length', 'context', 'aborted']),
    steps: count,
    accept_lengths: (lengths) => counts(lengths, DEPTH + 1),
    node_counts: (nodes) => counts(nodes),
    tree_depths: (depths) => counts(depths, DEPTH),
    accepted_depths: (depths) => counts(depths, DEPTH),
    heads: (each) => each.count(0, decodingTable.headsUsed.range.maximum),
    head_ranks: (ranks) =>
      ranks.numbers({
        minimum: Math.min(...Object.values(RANK)),
        maximum: decodingTable.topM.range.maximum,
        length: steps * heads,
      }),
    prefill_ms: number,
    first_token_ms: number,
    wall_ms: number,
    stage_ms: (stages) =>
      stages.fields(
        Object.fromEntries(STAGES.map((stage) => [stage, times])) as FieldReaders<TurnRecord['stage_ms']>,
      ),
  };
}

const repeat: FieldReaders<RepeatRecord> = {
  index: count,
  temperature: number,
  turns: (turns) =>
    turns.list((each) => each.fields(turnOf(each.field('steps').count(0), each.field('heads').count(0)))),
  seeds: (seeds) => seeds.numbers(),
};

const record: FieldReaders<RecordLine> = {
  question_id: readQuestionId,
  category: text,
  repeats: (repeats) => {
    const all = repeats.list((each) => each.fields(repeat));
    if (all.length > 0) return all;
    throw repeats.error('a list of at least one repeat');
  },
};

export const readRecord = (line: JsonReader): RecordLine => line.fields(record);

const skipped: FieldReaders<SkippedLine> = {
  question_id: readQuestionId,
  category: text,
  repeat: count,
  turn: (turn) => turn.count(),
  reason: text,
};

export const readSkippedLine = (line: JsonReader): SkippedLine => line.fields(skipped);

function tracedStep(nodes: number): FieldReaders<TracedStep> {
  return {
    tokens: (tokens) => tokens.numbers(TOKENS),
    parents: (parents) => parents.numbers({ minimum: -1, maximum: nodes - 1, length: nodes }),
    probabilities: (probabilities) => probabilities.numbers({ whole: false, length: nodes }),
    accepted: (rows) => rows.numbers({ minimum: 0, maximum: nodes - 1 }),
    bonus: (token) => token.count(TOKENS.minimum, TOKENS.maximum),
    position: (position) => position.count(0, POSITION),
  };
}

const trace: FieldReaders<TraceLine> = {
  question_id: readQuestionId,
  turns: (turns) =>
    turns.list((turn) =>
      turn.fields<TraceLine['turns'][number]>({
        steps: (steps) =>
          steps.list((step) => step.fields(tracedStep(step.field('tokens').numbers(TOKENS).length))),
      }),
    ),
  texts: (texts) => texts.entries(text),
};

export const readTrace = (line: JsonReader): TraceLine => line.fields(trace);

const session: FieldReaders<RunSession> = {
  started: text,
  ended: textOrNull,
  finished_questions: count,
  load_average: number,
};

const info: FieldReaders<RunInfo> = {
  format: (format) => {
    const found = format.count();
    if (found === 1) return found;
    throw format.refuse(`this is a run of format ${found}; this version reads format 1.`);
  },
  version: text,
  model: (model) =>
    model.fields<RunInfo['model']>({
      id: text,
      precision: text,
      provider: text,
      heads: textOrNull,
      backbone_sha256: textOrNull,
      heads_sha256: textOrNull,
      tokenizer_sha256: textOrNull,
      source_sha256: textOrNull,
    }),
  decoding: readDecoding,
  protocol: (protocol) =>
    protocol.fields<RunInfo['protocol']>({
      temperature: (each) => (each.any() === 'fastchat' ? 'fastchat' : each.number()),
      seed: count,
      repeats: (repeats) => repeats.count(),
      shard: textOrNull,
      trace: flag,
      model_id: text,
    }),
  questions: (questions) =>
    questions.fields<RunInfo['questions']>({
      name: text,
      sha256: text,
      ids: (ids) => ids.list(readQuestionId),
    }),
  machine: (machine) =>
    machine.fields<RunInfo['machine']>({ cpu: text, threads: (each) => each.count(), onnxruntime: text }),
  status: (status) => status.choice(['running', 'interrupted', 'failed', 'complete']),
  environment: (environment) =>
    environment.entries((fact) =>
      fact.nullable((each) => (typeof each.any() === 'number' ? each.number() : each.text())),
    ),
  cost_curve: readCostCurve,
  sessions: (sessions) => sessions.list((each) => each.fields(session)),
  merged_from: (folders) => folders.optional((each) => each.list(text)),
  missing_shards: (shards) => shards.optional((each) => each.list(text)),
};

export const readInfo = (run: JsonReader): RunInfo => run.fields(info);

const costPoint: FieldReaders<CostPoint> = { nodes: (nodes) => nodes.count(), milliseconds: number };

/** Earlier versions kept all of tuning.json here, an object: which of its curves was the run's it does not say. */
function readCostCurve(curve: JsonReader): CostPoint[] | null {
  if (curve.isAbsent) return null;
  if (curve.isList) return curve.list((point) => point.fields(costPoint));
  curve.object();
  return null;
}
