/** A run folder: created, or taken up again where the last run left it. */
import { mkdir, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { MedusaError, UsageError } from '../../util/errors.js';
import { partialEnding, writeWhole } from '../../util/writeFile.js';
import {
  idLine,
  runInfo,
  skippedLine,
  type AnswerLine,
  type RecordLine,
  type RunInfo,
  type SkippedLine,
  type TraceLine,
} from './formats.js';
import { readJson } from '../../util/json.js';
import { JsonlFile, readIfThere, readJsonl, RESTORE, writeError } from './jsonl.js';
import { lockFolder } from './lock.js';

export const RUN_FILE = 'run.json';
export const ANSWERS_FILE = 'answers.jsonl';
export const RECORDS_FILE = 'records.jsonl';
export const TRACE_FILE = 'trace.jsonl';
/** Questions that could not be asked. Not there while there are none. */
export const SKIPPED_FILE = 'skipped.jsonl';
/** The question file as it was asked, byte for byte. */
export const QUESTIONS_FILE = 'questions.jsonl';

/** The three lines a finished question leaves. */
export interface FinishedQuestion {
  readonly answer: AnswerLine;
  readonly record: RecordLine;
  readonly trace?: TraceLine;
}

export class RunFolder {
  private constructor(
    readonly path: string,
    readonly info: RunInfo,
    /** Ids (as text) of the questions that are on disk. */
    readonly done: Set<string>,
    /** Ids (as text) of those that could not be asked. */
    readonly skipped: Set<string>,
    private readonly files: { trace?: JsonlFile; records: JsonlFile; answers: JsonlFile },
    private readonly release: () => Promise<void>,
    /** Made by this run: without an answer nothing in it is worth keeping. */
    private readonly isNew: boolean,
    /** The outermost folder that had to be made for this one, if any. */
    private readonly made: string | undefined,
    /** Nothing was left to do in it: its run.json stays as it is. */
    private readonly isFinished: boolean,
  ) {}

  /**
   * Opens a folder for writing. A new folder gets `fresh` as its run.json; one with a run.json is continued if it was
   * made with the same identity; any other folder that is not empty is refused. A question file that is given is kept in it.
   */
  static async open(path: string, fresh: RunInfo, questions?: Uint8Array): Promise<RunFolder> {
    const made = await makeFolder(path);
    await refuseForeign(path);
    const release = await lockFolder(path);
    try {
      const info = (await readRunInfo(path)) ?? fresh;
      refuseDifferent(path, info, fresh);
      const { done, files } = await repair(path, fresh.protocol.trace);
      const skipped = new Set((await readSkipped(path)).keys());
      const isOnDisk = (id: number | string): boolean => done.has(String(id)) || skipped.has(String(id));
      const isFinished = info.status === 'complete' && info.questions.ids.every(isOnDisk);
      const folder = new RunFolder(
        path,
        info,
        done,
        skipped,
        files,
        release,
        info === fresh,
        made,
        isFinished,
      );
      if (!isFinished) {
        info.status = 'running';
        info.sessions = [...(info === fresh ? [] : info.sessions), fresh.sessions[0]];
        await folder.saveInfo();
      }
      if (questions && !(await keptQuestions(path)))
        await writeRunFile(join(path, QUESTIONS_FILE), questions);
      return folder;
    } catch (error) {
      await release();
      throw error;
    }
  }

  has(id: number | string): boolean {
    return this.done.has(String(id)) || this.skipped.has(String(id));
  }

  /** Puts on disk that a question cannot be asked, and why. It is not asked again when the run goes on. */
  async skip(line: SkippedLine): Promise<void> {
    const path = join(this.path, SKIPPED_FILE);
    const { ends } = await readJsonl(path, skippedLine);
    const file = await JsonlFile.open(path, ends.at(-1) ?? 0);
    try {
      await file.append(line);
    } finally {
      await file.close();
    }
    this.skipped.add(String(line.question_id));
  }

  /** Puts a finished question on disk: the answer last, so that an answer always has its record. */
  async append(finished: FinishedQuestion): Promise<void> {
    if (this.files.trace && finished.trace) await this.files.trace.append(finished.trace);
    await this.files.records.append(finished.record);
    await this.files.answers.append(finished.answer);
    this.done.add(String(finished.answer.question_id));
    this.session.finished_questions++;
  }

  /** Writes how the run ended and lets go of the folder. One that failed before its first answer leaves none behind. */
  async close(status: RunInfo['status']): Promise<void> {
    if (status === 'failed' && this.isNew && this.done.size + this.skipped.size === 0) return this.discard();
    try {
      if (!this.isFinished) {
        this.info.status = status;
        this.session.ended = new Date().toISOString();
        await this.saveInfo();
      }
    } finally {
      const { answers, records, trace } = this.files;
      await Promise.all([answers.close(), records.close(), trace?.close()]);
      await this.release();
    }
  }

  private async discard(): Promise<void> {
    const { answers, records, trace } = this.files;
    await Promise.all([answers.close(), records.close(), trace?.close()]);
    await this.release();
    for (const name of [RUN_FILE, QUESTIONS_FILE, ANSWERS_FILE, RECORDS_FILE, TRACE_FILE])
      await rm(join(this.path, name), { force: true });
    if (this.made !== undefined) await removeEmpty(this.path, this.made);
  }

  private get session(): RunInfo['sessions'][number] {
    return this.info.sessions[this.info.sessions.length - 1];
  }

  private async saveInfo(): Promise<void> {
    await writeRunInfo(this.path, this.info);
  }
}

/** Writes a whole file of a run folder in one step. */
export async function writeRunFile(path: string, content: string | Uint8Array): Promise<void> {
  try {
    await writeWhole(path, content);
  } catch (error) {
    throw writeError(path, error);
  }
}

export async function writeRunInfo(folder: string, { older_costs, ...info }: RunInfo): Promise<void> {
  const written = { ...info, cost_curve: info.cost_curve ?? older_costs ?? null };
  await writeRunFile(join(folder, RUN_FILE), `${JSON.stringify(written, null, 2)}\n`);
}

/** The question file of a run; undefined in the folder of a version that did not keep it. */
export function keptQuestions(path: string): Promise<Uint8Array | undefined> {
  return readIfThere(join(path, QUESTIONS_FILE));
}

/** The questions of a run that could not be asked, by id. */
export async function readSkipped(path: string): Promise<Map<string, SkippedLine>> {
  const { values } = await readJsonl(join(path, SKIPPED_FILE), skippedLine);
  return new Map(values.map((line) => [String(line.question_id), line]));
}

export async function readRunInfo(path: string): Promise<RunInfo | undefined> {
  const file = join(path, RUN_FILE);
  const bytes = await readIfThere(file);
  if (!bytes) return undefined;
  const text = bytes.toString('utf8');
  const info = readJson(runInfo, text, file, RESTORE);
  const { cost_curve } = JSON.parse(text) as Record<string, unknown>;
  return info.cost_curve === null && cost_curve ? { ...info, older_costs: cost_curve } : info;
}

/** Returns the outermost folder that had to be made. */
async function makeFolder(path: string): Promise<string | undefined> {
  await refuseFile(path);
  try {
    return await mkdir(path, { recursive: true });
  } catch (error) {
    throw writeError(path, error);
  }
}

/** @throws UsageError when a file stands where the folder, or one above it, should be */
export async function refuseFile(path: string): Promise<void> {
  for (let place = resolve(path); ; place = dirname(place)) {
    const found = await stat(place).catch(() => undefined);
    if (found && !found.isDirectory())
      throw new UsageError(`${place} is a file, not a folder; give another --output`);
    if (found || place === dirname(place)) return;
  }
}

/** Removes `path` and the folders above it as far as `top`, until one is not empty. */
async function removeEmpty(path: string, top: string): Promise<void> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    const isRemoved = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!isRemoved || folder === resolve(top)) return;
  }
}

async function refuseForeign(path: string): Promise<void> {
  const names = (await readdir(path)).filter((name) => !name.startsWith('.'));
  if (names.includes(RUN_FILE)) return;
  for (const name of names) {
    if (await isLeftover(join(path, name))) continue;
    throw new UsageError(
      `${path} is not empty and not a bench folder (no ${RUN_FILE}); nothing was changed. Give another --output`,
    );
  }
}

const emptyAtFirst: readonly string[] = [ANSWERS_FILE, RECORDS_FILE, TRACE_FILE];

/** What a kill leaves before run.json is written: a part of it, or a file of ours with nothing in it. */
async function isLeftover(file: string): Promise<boolean> {
  return (
    file.endsWith(partialEnding) || (emptyAtFirst.includes(basename(file)) && (await stat(file)).size === 0)
  );
}

function refuseDifferent(path: string, present: RunInfo, fresh: RunInfo): void {
  if (present.merged_from) {
    throw new UsageError(`${path} was merged from shards and cannot be continued; give another --output`);
  }
  const difference = firstDifference(identityOf(present), identityOf(fresh));
  if (difference) {
    throw new UsageError(
      `${path} was made with ${difference.field} = ${show(difference.left)}, this run has ${show(difference.right)}; ` +
        `nothing was changed. ${remedy(difference)} to continue it, or give another --output`,
    );
  }
}

/** Threads can be chosen by measuring: then the first run's options do not name them. */
function remedy({ field, left }: Difference): string {
  return field === 'machine.threads' ? `Give --threads ${String(left)}` : "Repeat the first run's options";
}

/** The part of run.json that must not change between sessions. Questions are known by their content, not their path. */
function identityOf(info: RunInfo): Record<string, unknown> {
  const { format, version, model, decoding, protocol, questions, machine } = info;
  const { sha256, ids } = questions;
  return { format, version, model, decoding, protocol, questions: { sha256, ids }, machine };
}

export interface Difference {
  readonly field: string;
  readonly left: unknown;
  readonly right: unknown;
}

/** The first field, in reading order, in which two JSON values differ. */
export function firstDifference(left: unknown, right: unknown, field = ''): Difference | undefined {
  if (!isPlain(left) || !isPlain(right)) {
    return JSON.stringify(left) === JSON.stringify(right) ? undefined : { field, left, right };
  }
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const found = firstDifference(left[key], right[key], field === '' ? key : `${field}.${key}`);
    if (found) return found;
  }
  return undefined;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Keeps the questions that are complete in all files and cuts what a kill left behind them. */
async function repair(
  path: string,
  trace: boolean,
): Promise<{ done: Set<string>; files: { trace?: JsonlFile; records: JsonlFile; answers: JsonlFile } }> {
  const names = [ANSWERS_FILE, RECORDS_FILE, ...(trace ? [TRACE_FILE] : [])];
  const contents = await Promise.all(names.map((name) => readJsonl(join(path, name), idLine)));
  const complete = Math.min(...contents.map(({ values }) => values.length));
  const done = new Set<string>();
  for (let index = 0; index < complete; index++) {
    const id = String(contents[0].values[index].question_id);
    const stray = contents.findIndex(({ values }) => String(values[index].question_id) !== id);
    if (stray > 0 || done.has(id)) {
      throw new MedusaError(
        `${join(path, names[Math.max(stray, 0)])}, line ${index + 1}: question ${id} is out of place or doubled; ` +
          'the folder was changed by hand. Start a new one',
      );
    }
    done.add(id);
  }
  const sizes = contents.map(({ ends }) => (complete === 0 ? 0 : ends[complete - 1]));
  const [answers, records, traces] = await Promise.all(
    names.map((name, index) => JsonlFile.open(join(path, name), sizes[index])),
  );
  return { done, files: { answers, records, ...(traces ? { trace: traces } : {}) } };
}
