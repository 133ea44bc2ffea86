/** Single-answer grading as MT-Bench does it: each turn of each answer gets a rating from 1 to 10. */
import { join } from 'node:path';
import * as v from 'valibot';
import { UsageError } from '../../util/errors.js';
import { count, number, object, text } from '../../util/json.js';
import type { Question } from '../questions/parse.js';
import { questionId, type AnswerLine } from '../run/formats.js';
import { JsonlFile, readJsonl } from '../run/jsonl.js';
import { lockFolder } from '../run/lock.js';
import { JudgeClient, type Endpoint } from './client.js';
import { fillTemplate, NO_RATING, ratingOf, type JudgePrompt, type JudgePrompts } from './prompts.js';

export const JUDGMENT_FILE = 'judgment.jsonl';

/** Categories whose answers are held against reference answers. */
const WITH_REFERENCE = new Set(['math', 'reasoning', 'coding', 'arena-hard-200']);

/** One line of FastChat's model_judgment files. */
const judgmentLine = object({
  question_id: questionId,
  model: text,
  judge: v.strictTuple([text, text], 'the names of the judge and of its prompt'),
  user_prompt: text,
  judgment: text,
  /** -1 where no rating was found; show_result leaves those out. */
  score: number,
  /** 1-based. */
  turn: count(),
  tstamp: number,
});
export type Judgment = Readonly<v.InferOutput<typeof judgmentLine>>;

export interface JudgeRequest {
  readonly folder: string;
  readonly questions: ReadonlyMap<string, Question>;
  readonly answers: readonly AnswerLine[];
  readonly prompts: JudgePrompts;
  /** Reference answers by question. */
  readonly references: ReadonlyMap<string, readonly string[]>;
  readonly endpoint: Endpoint;
  readonly parallel: number;
  readonly onJudgment?: (done: number, total: number) => void;
}

interface Match {
  readonly answer: AnswerLine;
  readonly turn: 1 | 2;
  readonly prompt: JudgePrompt;
  readonly userPrompt: string;
}

/** Judges what is not judged yet; returns all judgments of this judge. Each one is on disk when it is made. */
export async function judgeAnswers(request: JudgeRequest): Promise<Judgment[]> {
  const matches = request.answers.flatMap((answer) => matchesOf(answer, request));
  const release = await lockFolder(request.folder);
  try {
    const path = join(request.folder, JUDGMENT_FILE);
    const { values, ends } = await readJsonl(path, judgmentLine);
    const file = await JsonlFile.open(path, ends.at(-1) ?? 0);
    try {
      return await judgeRest(request, matches, values, file);
    } finally {
      await file.close();
    }
  } finally {
    await release();
  }
}

async function judgeRest(
  request: JudgeRequest,
  matches: readonly Match[],
  present: readonly Judgment[],
  file: JsonlFile,
): Promise<Judgment[]> {
  const { endpoint } = request;
  const client = new JudgeClient(endpoint);
  const wanted = new Set(matches.map((match) => keyOf(match, endpoint.model)));
  const kept = present.filter((judgment) => wanted.has(keyOfJudgment(judgment)));
  const done = new Set(kept.map(keyOfJudgment));
  const pending = matches.filter((match) => !done.has(keyOf(match, endpoint.model)));
  const judgments = [...kept];
  /** Writes one after the other: lines of parallel requests must not mix. */
  let writing = Promise.resolve();
  const work = async (): Promise<void> => {
    for (let match = pending.shift(); match; match = pending.shift()) {
      const judgment = await judge(match, client, endpoint.model);
      writing = writing.then(() => file.append(judgment));
      await writing;
      judgments.push(judgment);
      request.onJudgment?.(judgments.length, matches.length);
    }
  };
  const workers = await Promise.allSettled(
    Array.from({ length: request.parallel }, stopOthers(work, pending)),
  );
  await writing;
  const failed = workers.find((worker) => worker.status === 'rejected');
  if (failed) throw failed.reason;
  return judgments;
}

/** A failure of one worker empties the queue, so that the others end after what they are at. */
function stopOthers(work: () => Promise<void>, pending: Match[]): () => Promise<void> {
  return () =>
    work().catch((error: unknown) => {
      pending.length = 0;
      throw error;
    });
}

async function judge(
  { answer, turn, prompt, userPrompt }: Match,
  client: JudgeClient,
  model: string,
): Promise<Judgment> {
  const { text, refusal } = await client.chat({ system: prompt.system_prompt, user: userPrompt });
  return {
    question_id: answer.question_id,
    model: answer.model_id,
    judge: [model, prompt.name],
    user_prompt: userPrompt,
    judgment: refusal === undefined ? text : `(no judgment: ${refusal})`,
    score: refusal === undefined ? ratingOf(text) : NO_RATING,
    turn,
    tstamp: Date.now() / 1000,
  };
}

function keyOf({ answer, turn, prompt }: Match, model: string): string {
  return JSON.stringify([String(answer.question_id), answer.model_id, turn, model, prompt.name]);
}

function keyOfJudgment({ question_id, model, turn, judge: [judgeModel, name] }: Judgment): string {
  return JSON.stringify([String(question_id), model, turn, judgeModel, name]);
}

function matchesOf(answer: AnswerLine, request: JudgeRequest): Match[] {
  const question = request.questions.get(String(answer.question_id));
  if (!question) {
    throw new UsageError(
      `Question ${answer.question_id} is not among the questions; give those that were asked`,
    );
  }
  const needs = WITH_REFERENCE.has(question.category);
  const references = needs ? request.references.get(String(answer.question_id)) : undefined;
  if (needs && !references) {
    throw new UsageError(
      `Question ${answer.question_id} (${question.category}) needs a reference answer, and there is none; see --references`,
    );
  }
  const { prompts } = request;
  const first = match(answer, 1, needs ? prompts.reference : prompts.plain, question, references);
  if (question.turns.length < 2) return [first];
  const second = needs ? prompts.referenceSecondTurn : prompts.plainSecondTurn;
  return [first, match(answer, 2, second, question, references)];
}

function match(
  answer: AnswerLine,
  turn: 1 | 2,
  prompt: JudgePrompt,
  question: Question,
  references: readonly string[] = [],
): Match {
  const turns = answer.choices.at(0)?.turns ?? [];
  if (turns.length < turn) {
    throw new UsageError(
      `answers.jsonl has no answer to turn ${turn} of question ${answer.question_id}; ask the questions again in a new folder`,
    );
  }
  const values = {
    question: question.turns[0],
    question_1: question.turns[0],
    question_2: question.turns[1] ?? '',
    answer: turns[0],
    answer_1: turns[0],
    answer_2: turns[1] ?? '',
    ref_answer_1: references[0] ?? '',
    ref_answer_2: references[1] ?? '',
  };
  return { answer, turn, prompt, userPrompt: fillTemplate(prompt.prompt_template, values) };
}

/** Reference answers out of FastChat's reference_answer files. */
export function referencesOf(lines: readonly unknown[], name: string): Map<string, readonly string[]> {
  return new Map(
    lines.map((line, index) => {
      const { question_id: id, choices } = line as { question_id?: unknown; choices?: { turns?: unknown }[] };
      const turns = choices?.[0]?.turns;
      if ((typeof id !== 'number' && typeof id !== 'string') || !Array.isArray(turns)) {
        throw new UsageError(`${name}, line ${index + 1}: expected question_id and choices[0].turns`);
      }
      return [String(id), turns.map(String)];
    }),
  );
}
