/**
 * Asks the questions. One lane is one set of decoding options with its own folder; several lanes are interleaved
 * question by question, in an order that turns, so that drift of the machine falls on all of them alike.
 */
import { ContextError, MedusaError, UsageError } from '../../util/errors.js';
import type { BenchEngine } from '../engine.js';
import type { Message } from '../../engine/engine.js';
import type { GenerateOptions } from '../../engine/options/generateOptions.js';
import type { Question } from '../questions/parse.js';
import { TurnCollector } from './collect.js';
import type { FinishedQuestion, RunFolder } from './folder.js';
import type { RepeatRecord, SkippedLine, TracedStep, TurnRecord } from './formats.js';
import type { RunDecoding } from './decodingSchema.js';
import { acceptanceOf, answerId, temperatureOf, turnSeed, type RunPlan } from './plan.js';

export interface Lane {
  readonly name: string;
  readonly engine: BenchEngine;
  readonly decoding: RunDecoding;
  readonly folder: RunFolder;
  readonly trace: boolean;
  /** Text of token ids, for traces. */
  readonly tokenText?: (ids: readonly number[]) => string;
}

/** What happens, for a progress display. */
export interface RunEvents {
  onWarmUp?(lane: Lane): void;
  onTurn?(lane: Lane, turn: TurnRecord): void;
  onQuestion?(lane: Lane, question: Question): void;
  onSkip?(lane: Lane, skipped: SkippedLine): void;
}

/** A question that cannot be asked, whatever is tried: too long for the context, refused by the chat template. */
class Unaskable extends MedusaError {
  constructor(
    message: string,
    readonly turn: number,
    override readonly cause: MedusaError,
  ) {
    super(message, cause.exitCode, { cause });
  }
}

/** A repeat of a question, with what the answers file needs of it. */
interface Answered {
  readonly record: RepeatRecord;
  readonly texts: string[];
  readonly traces: TracedStep[][];
}

const WARM_UP_TOKENS = 24;
const WARM_UP_PROMPT: readonly Message[] = [
  { role: 'user', content: 'Name three things found in a kitchen.' },
];

/** Runs what is left of the plan. Returns false when it was interrupted; unfinished questions leave no trace. */
export async function runLanes(
  lanes: readonly Lane[],
  plan: RunPlan,
  events: RunEvents = {},
  signal?: AbortSignal,
): Promise<boolean> {
  for (const lane of lanes) {
    if (!plan.questions.some((question) => !lane.folder.has(question.question_id))) continue;
    events.onWarmUp?.(lane);
    await warmUp(lane, plan, signal);
  }
  for (const [position, question] of plan.questions.entries()) {
    const pending = lanes.filter((lane) => !lane.folder.has(question.question_id));
    if (!(await askLanes(rotate(pending, position), question, plan, events, signal))) return false;
  }
  return true;
}

/** First runs pay for memory and caches; they are not measured. */
async function warmUp(lane: Lane, { raw, thinking }: RunPlan, signal?: AbortSignal): Promise<void> {
  lane.engine.forget();
  await lane.engine.complete(raw ? rawPrompt(WARM_UP_PROMPT) : WARM_UP_PROMPT, {
    ...generateOptions(lane.decoding, 0),
    seed: 0,
    maxNewTokens: Math.min(WARM_UP_TOKENS, lane.decoding.maxNewTokens),
    raw: raw === true,
    thinking,
    signal,
  });
}

async function askLanes(
  lanes: readonly Lane[],
  question: Question,
  plan: RunPlan,
  events: RunEvents,
  signal?: AbortSignal,
): Promise<boolean> {
  const answered = new Map<Lane, Answered[]>(lanes.map((lane) => [lane, []]));
  for (let repeat = 0; repeat < plan.repeats; repeat++) {
    for (const lane of rotate(lanes, repeat)) {
      const answers = answered.get(lane);
      if (!answers) continue;
      const answer = await askOrSkip(lane, question, plan, repeat, events, signal);
      if (!answer) return false;
      if (answer === 'skipped') {
        answered.delete(lane);
        continue;
      }
      answers.push(answer);
      if (answers.length < plan.repeats) continue;
      await lane.folder.append(finish(lane, question, plan, answers));
      events.onQuestion?.(lane, question);
    }
  }
  return true;
}

/** Asks, or puts on disk that the question cannot be asked; then the other questions still can. */
async function askOrSkip(
  lane: Lane,
  question: Question,
  plan: RunPlan,
  repeat: number,
  events: RunEvents,
  signal?: AbortSignal,
): Promise<Answered | 'skipped' | undefined> {
  try {
    return await ask(lane, question, plan, repeat, events, signal);
  } catch (error) {
    if (!(error instanceof Unaskable) || plan.onError === 'stop') throw error;
    const { question_id, category } = question;
    const skipped = { question_id, category, repeat, turn: error.turn, reason: error.cause.message };
    await lane.folder.skip(skipped);
    events.onSkip?.(lane, skipped);
    return 'skipped';
  }
}

/** One conversation: every turn sees the real answers before it. Undefined when it was interrupted. */
async function ask(
  lane: Lane,
  question: Question,
  plan: RunPlan,
  repeat: number,
  events: RunEvents,
  signal?: AbortSignal,
): Promise<Answered | undefined> {
  const temperature = temperatureOf(plan.temperature, question.category);
  const seeds = question.turns.map((_, turn) => turnSeed(plan.seed, question.question_id, repeat, turn));
  const answer: Answered = {
    record: { index: repeat, temperature, turns: [], seeds },
    texts: [],
    traces: [],
  };
  const messages: Message[] = [];
  lane.engine.forget({ drafts: plan.keepDrafts !== true });
  for (const [turn, content] of question.turns.entries()) {
    if (signal?.aborted) return undefined;
    messages.push({ role: 'user', content });
    const collector = new TurnCollector(lane.trace && repeat === 0);
    const result = await complete(
      lane,
      question,
      plan.raw ? rawPrompt(messages) : messages,
      {
        raw: plan.raw === true,
        thinking: plan.thinking,
        temperature,
        seed: seeds[turn],
        onStep: collector.onStep,
        signal,
      },
      turn + 1,
    );
    if (result.statistics.finishReason === 'aborted') return undefined;
    const record = collector.record(result);
    answer.record.turns.push(record);
    answer.texts.push(result.text);
    answer.traces.push(collector.traced());
    messages.push({ role: 'assistant', content: result.text });
    events.onTurn?.(lane, record);
  }
  return answer;
}

/** Turns and answers as one text. */
const rawPrompt = (messages: readonly Message[]): string => messages.map(({ content }) => content).join('\n');

type Given = Pick<
  Parameters<BenchEngine['complete']>[1],
  'seed' | 'onStep' | 'signal' | 'raw' | 'thinking'
> & {
  temperature: number;
};

async function complete(
  lane: Lane,
  question: Question,
  prompt: string | readonly Message[],
  given: Given,
  turn: number,
): ReturnType<BenchEngine['complete']> {
  const { temperature, ...rest } = given;
  try {
    return await lane.engine.complete(prompt, {
      ...generateOptions(lane.decoding, temperature),
      ...rest,
      // Lanes may share an engine: none is to learn from the answers of another.
      user: lane.name,
    });
  } catch (error) {
    if (!(error instanceof MedusaError)) throw error;
    const what = `Question ${question.question_id} (${lane.name}), turn ${turn}: ${error.message}`;
    // Anything else (a damaged model, a failed runtime) would fail with the next question too.
    if (error instanceof ContextError || error instanceof UsageError) throw new Unaskable(what, turn, error);
    throw new MedusaError(what, error.exitCode, { cause: error });
  }
}

/** The options of one generation. Those that do not belong to its acceptance or model are left out. */
function generateOptions(decoding: RunDecoding, temperature: number): GenerateOptions {
  const { acceptance: asked, topP, headsUsed, ...rest } = decoding;
  const acceptance = acceptanceOf(asked, temperature);
  return {
    ...rest,
    temperature,
    acceptance,
    ...(acceptance === 'nucleus' ? { topP } : {}),
    ...(headsUsed > 0 ? { headsUsed } : {}),
  };
}

function finish(
  lane: Lane,
  question: Question,
  plan: RunPlan,
  answers: readonly Answered[],
): FinishedQuestion {
  const { question_id } = question;
  const modelId = lane.folder.info.protocol.model_id;
  return {
    answer: {
      question_id,
      answer_id: answerId(modelId, plan.seed, question_id),
      model_id: modelId,
      choices: answers.map(({ record, texts }) => ({
        index: record.index,
        turns: texts,
        idxs: record.turns.map((turn) => turn.steps - 1),
        new_tokens: record.turns.map((turn) => turn.token_ids.length),
        wall_time: record.turns.map((turn) => turn.wall_ms / 1000),
      })),
      tstamp: Date.now() / 1000,
    },
    record: { question_id, category: question.category, repeats: answers.map(({ record }) => record) },
    ...(lane.trace ? { trace: traceLine(lane, question, answers[0].traces) } : {}),
  };
}

function traceLine(
  lane: Lane,
  question: Question,
  traces: readonly TracedStep[][],
): FinishedQuestion['trace'] {
  const ids = new Set(traces.flat().flatMap((step) => [...step.tokens, step.bonus]));
  const text = lane.tokenText;
  return {
    question_id: question.question_id,
    turns: traces.map((steps) => ({ steps })),
    texts: Object.fromEntries([...ids].map((id) => [String(id), text ? text([id]) : `#${id}`])),
  };
}

function rotate<T>(items: readonly T[], by: number): readonly T[] {
  const start = items.length === 0 ? 0 : by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
