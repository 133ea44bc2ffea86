/** `bench merge`: shards of one run become one folder. */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../../util/errors.js';
import type { Schema } from '../../util/json.js';
import { parseShard } from '../questions/load.js';
import type { QuestionId } from '../questions/parse.js';
import { answerLine, recordLine, traceLine, type RunInfo, type SkippedLine } from './formats.js';
import {
  ANSWERS_FILE,
  firstDifference,
  keptQuestions,
  QUESTIONS_FILE,
  readRunInfo,
  readSkipped,
  RECORDS_FILE,
  RUN_FILE,
  SKIPPED_FILE,
  TRACE_FILE,
  writeRunFile,
  writeRunInfo,
} from './folder.js';
import { readJsonl } from './jsonl.js';

export interface MergeOptions {
  /** Take what there is: finished questions of runs that did not end, and shards though others are missing. */
  readonly unfinished?: boolean;
}

/** Merges shards into `output`, in the order of the question file's ids. Sources stay as they are. */
export async function mergeRuns(
  folders: readonly string[],
  output: string,
  { unfinished = false }: MergeOptions = {},
): Promise<RunInfo> {
  if (folders.length < 2) throw new UsageError('bench merge needs at least two folders');
  const infos: RunInfo[] = [];
  // One after the other, so that of several bad folders it is always the first that is named.
  for (const folder of folders) infos.push(await readPart(folder, unfinished));
  infos.slice(1).forEach((info, index) => refuseDifferent(folders[0], infos[0], folders[index + 1], info));
  const missing = missingShards(infos);
  if (missing.length > 0 && !unfinished) {
    throw new UsageError(
      `Shard ${missing.join(', ')} is missing: name its folder too, or merge what there is with --unfinished`,
    );
  }
  await refuseUsed(output);
  const order = mergedOrder(folders, infos);
  await mkdir(output, { recursive: true });
  const skipped = new Map<string, SkippedLine>();
  for (const folder of folders) for (const [id, line] of await readSkipped(folder)) skipped.set(id, line);
  const answered = order.filter((id) => !skipped.has(String(id)));
  if (infos[0].protocol.trace) await mergeLines(folders, output, TRACE_FILE, traceLine, answered);
  await mergeLines(folders, output, RECORDS_FILE, recordLine, answered);
  await mergeLines(folders, output, ANSWERS_FILE, answerLine, answered);
  if (skipped.size > 0) await writeRunFile(join(output, SKIPPED_FILE), linesOf(order, skipped));
  await keepQuestions(folders, output);
  const info = mergedInfo(infos, folders, order, missing);
  await writeRunInfo(output, info);
  return info;
}

/** What a folder contributes; of an unfinished one the questions that have their answer on disk. */
async function readPart(folder: string, unfinished: boolean): Promise<RunInfo> {
  const info = await readRunInfo(folder);
  if (!info) throw new UsageError(`${folder} is not a bench folder (no ${RUN_FILE})`);
  if (info.status === 'complete') return info;
  if (!unfinished) {
    throw new UsageError(
      `${folder} is ${info.status}, not complete: finish it first (the same command continues it), ` +
        'or take its finished questions with --unfinished',
    );
  }
  const { values } = await readJsonl(join(folder, ANSWERS_FILE), answerLine);
  const skipped = await readSkipped(folder);
  const answered = new Set([...skipped.keys(), ...values.map(({ question_id }) => String(question_id))]);
  const ids = info.questions.ids.filter((id) => answered.has(String(id)));
  return { ...info, questions: { ...info.questions, ids } };
}

/** Shards may come from several machines, with the question file at another path; all else must agree. */
function comparable(info: RunInfo): unknown {
  const { format, version, model, decoding, protocol, questions } = info;
  return {
    format,
    version,
    model,
    decoding,
    protocol: { ...protocol, shard: null },
    questions: { sha256: questions.sha256 },
  };
}

/** The shards that are not there, as i/n. Without any shard among the runs nothing is missing. */
function missingShards(infos: readonly RunInfo[]): string[] {
  const given = infos.flatMap(({ protocol: { shard } }) => shard ?? []);
  const counts = new Set(given.map((shard) => parseShard(shard).count));
  if (counts.size > 1) {
    throw new UsageError(`Shards ${given.join(', ')} are parts of different divisions; they must have one n`);
  }
  const present = new Set(given.map((shard) => parseShard(shard).index));
  return [...counts].flatMap((count) =>
    Array.from({ length: count }, (_, index) => index + 1)
      .filter((index) => !present.has(index))
      .map((index) => `${index}/${count}`),
  );
}

/** The questions of the first folder that keeps them: those of all folders are the same bytes. */
async function keepQuestions(folders: readonly string[], output: string): Promise<void> {
  for (const folder of folders) {
    const bytes = await keptQuestions(folder);
    if (!bytes) continue;
    await writeRunFile(join(output, QUESTIONS_FILE), bytes);
    return;
  }
}

function refuseDifferent(first: string, left: RunInfo, second: string, right: RunInfo): void {
  const difference = firstDifference(comparable(left), comparable(right));
  if (!difference) return;
  throw new UsageError(
    `${first} and ${second} are not parts of one run: ${difference.field} is ` +
      `${JSON.stringify(difference.left)} in one and ${JSON.stringify(difference.right)} in the other`,
  );
}

async function refuseUsed(output: string): Promise<void> {
  const present = await readdir(output).catch(() => []);
  if (present.length > 0) throw new UsageError(`${output} is not empty; give bench merge a new --output`);
}

/** Questions in ascending id; one that two shards answered is an error. */
function mergedOrder(folders: readonly string[], infos: readonly RunInfo[]): RunInfo['questions']['ids'] {
  const owner = new Map<string, string>();
  const ids = infos.flatMap((info, index) => {
    for (const id of info.questions.ids) {
      const earlier = owner.get(String(id));
      if (earlier !== undefined)
        throw new UsageError(`Question ${id} is in both ${earlier} and ${folders[index]}`);
      owner.set(String(id), folders[index]);
    }
    return info.questions.ids;
  });
  return ids.sort((a, b) =>
    typeof a === 'number' && typeof b === 'number' ? a - b : String(a) < String(b) ? -1 : 1,
  );
}

async function mergeLines<T extends { question_id: QuestionId }>(
  folders: readonly string[],
  output: string,
  name: string,
  schema: Schema<T>,
  order: RunInfo['questions']['ids'],
): Promise<void> {
  const lines = new Map<string, T>();
  for (const folder of folders) {
    const { values } = await readJsonl(join(folder, name), schema);
    for (const value of values) lines.set(String(value.question_id), value);
  }
  const missing = order.filter((id) => !lines.has(String(id)));
  if (missing.length > 0) throw new UsageError(`${name} of the shards lacks questions ${missing.join(', ')}`);
  await writeRunFile(join(output, name), linesOf(order, lines));
}

/** The lines that there are, in order. */
function linesOf(order: RunInfo['questions']['ids'], lines: ReadonlyMap<string, unknown>): string {
  return order
    .flatMap((id) => lines.get(String(id)) ?? [])
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
}

function mergedInfo(
  infos: readonly RunInfo[],
  folders: readonly string[],
  order: RunInfo['questions']['ids'],
  missing: readonly string[],
): RunInfo {
  const [first] = infos;
  return {
    ...first,
    protocol: { ...first.protocol, shard: null },
    questions: { ...first.questions, ids: order },
    status: missing.length > 0 ? 'interrupted' : 'complete',
    sessions: infos.flatMap(({ sessions }) => sessions),
    merged_from: [...folders],
    ...(missing.length > 0 ? { missing_shards: [...missing] } : {}),
  };
}
