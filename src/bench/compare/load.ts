/** Reads run folders and lines up the questions they have in common. */
import { access } from 'node:fs/promises';
import { basename, join, resolve, sep } from 'node:path';
import { sharedDecoding } from '../../engine/options/table.js';
import { MedusaError, UsageError } from '../../util/errors.js';
import type { Schema } from '../../util/json.js';
import {
  ANSWERS_FILE,
  readRunInfo,
  readSkipped,
  RECORDS_FILE,
  RUN_FILE,
  SKIPPED_FILE,
  TRACE_FILE,
} from '../run/folder.js';
import {
  answerLine,
  recordLine,
  traceLine,
  type AnswerLine,
  type RecordLine,
  type RunInfo,
  type SkippedLine,
  type TraceLine,
} from '../run/formats.js';
import { readJsonl } from '../run/jsonl.js';
import { counted, shortCommit } from '../report/table.js';

export interface LoadedRun {
  /** How the reports call it. */
  readonly name: string;
  readonly folder: string;
  readonly info: RunInfo;
  readonly records: ReadonlyMap<string, RecordLine>;
  readonly answers: ReadonlyMap<string, AnswerLine>;
  readonly traces: ReadonlyMap<string, TraceLine>;
  /** Questions that could not be asked. */
  readonly skipped?: ReadonlyMap<string, SkippedLine>;
}

/** Runs over the same questions; `runs[0]` is the baseline. */
export interface Comparison {
  readonly runs: readonly LoadedRun[];
  /** Questions that all runs answered, in order. */
  readonly ids: readonly string[];
  /** What a reader should know before believing the numbers. */
  readonly notes: readonly string[];
}

export async function loadRun(folder: string, name?: string): Promise<LoadedRun> {
  const info = await readRunInfo(folder);
  if (!info) {
    const exists = await access(folder).then(
      () => true,
      () => false,
    );
    throw new UsageError(`${folder} ${exists ? `is not a bench folder (no ${RUN_FILE})` : 'does not exist'}`);
  }
  const [records, answers, traces, skipped] = await Promise.all([
    readLines(folder, RECORDS_FILE, recordLine),
    readLines(folder, ANSWERS_FILE, answerLine),
    readLines(folder, TRACE_FILE, traceLine),
    readSkipped(folder),
  ]);
  const given = name ?? basename(resolve(folder));
  // The option of plain decoding is `--tree none`.
  const shown = given === 'none' && info.decoding.tree === 'none' ? 'plain' : given;
  return { name: shown, folder, info, records, answers, traces, skipped };
}

async function readLines<T extends { question_id: number | string }>(
  folder: string,
  name: string,
  schema: Schema<T>,
): Promise<Map<string, T>> {
  const { values } = await readJsonl(join(folder, name), schema);
  return new Map(values.map((value) => [String(value.question_id), value]));
}

/** How many questions the runs skipped, with the first reason; what no run could ask is said once for all of them. */
export function skippedNotes(runs: readonly LoadedRun[]): string[] {
  if (runs.length === 1) return skippedBy(runs[0].name, runs[0], () => true);
  const byAll = (id: string): boolean => runs.every(({ skipped }) => skipped?.has(id));
  return [
    ...skippedBy('All runs', runs[0], byAll),
    ...runs.flatMap((run) => skippedBy(run.name, run, (id) => !byAll(id))),
  ];
}

function skippedBy(who: string, { info, skipped }: LoadedRun, isMeant: (id: string) => boolean): string[] {
  const lines = [...(skipped ?? [])].filter(([id]) => isMeant(id)).map(([, line]) => line);
  if (lines.length === 0) return [];
  const [{ question_id, turn, reason }] = lines;
  return [
    `${who}: ${lines.length} of ${counted(info.questions.ids.length, 'question')} could not be asked and ` +
      `${lines.length === 1 ? 'was' : 'were'} skipped: question ${question_id}, turn ${turn}: ${reason}`,
  ];
}

/** Checks that runs can be compared and puts the baseline first. */
export function compareRuns(given: readonly LoadedRun[]): Comparison {
  if (given.length < 2) throw new UsageError('compare needs at least two runs');
  const runs = baseFirst(withUniqueNames(given));
  const [base, ...others] = runs;
  for (const run of others) refuseOther(base, run);
  const ids = [...base.records.keys()].filter((id) =>
    runs.every((run) => run.records.has(id) && run.answers.has(id)),
  );
  if (ids.length === 0) {
    throw new MedusaError(['The runs have no question in common', ...skippedNotes(runs)].join('. '));
  }
  return { runs, ids, notes: notesOn(runs, ids) };
}

/** Plain decoding is the baseline wherever it is given; without it, the first run is. */
function baseFirst(runs: readonly LoadedRun[]): LoadedRun[] {
  const base = runs.find((run) => run.info.decoding.tree === 'none') ?? runs[0];
  return [base, ...runs.filter((run) => run !== base)];
}

function withUniqueNames(runs: readonly LoadedRun[]): readonly LoadedRun[] {
  const names = runs.map((run) => run.name);
  if (new Set(names).size === names.length) return runs;
  // Of several folders with one name: as much of their paths as tells them apart.
  const paths = runs.map(({ folder }) => resolve(folder).split(sep));
  for (let length = 2; length <= Math.max(...paths.map((path) => path.length)); length++) {
    const longer = paths.map((path) => path.slice(-length).join('/'));
    if (new Set(longer).size === longer.length)
      return runs.map((run, index) => ({
        ...run,
        name: isShared(names, run.name) ? longer[index] : run.name,
      }));
  }
  return runs.map((run, index) => ({ ...run, name: `${run.name} (${index + 1})` }));
}

function isShared(names: readonly string[], name: string): boolean {
  return names.filter((each) => each === name).length > 1;
}

/** Other questions or another protocol make the numbers incomparable; that is an error, not a note. */
function refuseOther(base: LoadedRun, run: LoadedRun): void {
  const checks: [string, (info: RunInfo) => unknown][] = [
    ['questions.sha256', (info) => info.questions.sha256],
    ['protocol.temperature', (info) => info.protocol.temperature],
    ['protocol.repeats', (info) => info.protocol.repeats],
    ['protocol.keep_drafts', (info) => info.protocol.keep_drafts],
    ['protocol.raw', (info) => info.protocol.raw],
    ['protocol.thinking', (info) => info.protocol.thinking],
    ['model.chat_template', (info) => info.model.chat_template],
    ...sharedDecoding.map((name): [string, (info: RunInfo) => unknown] => [
      `decoding.${name}`,
      (info) => info.decoding[name],
    ]),
    ['model.source_sha256', (info) => info.model.source_sha256],
    ['model.tokenizer_sha256', (info) => info.model.tokenizer_sha256],
  ];
  for (const [field, pick] of checks) {
    const [left, right] = [JSON.stringify(pick(base.info)), JSON.stringify(pick(run.info))];
    if (left !== right) {
      throw new UsageError(
        `${base.folder} and ${run.folder} cannot be compared: ${field} is ${left} in one and ${right} in the other`,
      );
    }
  }
}

function notesOn(runs: readonly LoadedRun[], ids: readonly string[]): string[] {
  const notes: string[] = [];
  const [base] = runs;
  if (base.info.decoding.tree !== 'none') {
    notes.push(`No run of plain decoding was given: speed-ups are over ${base.name}.`);
  }
  const skipped = skippedNotes(runs);
  notes.push(...skipped);
  if (skipped.length > 0)
    notes.push(
      `Skipped questions are left out of all runs; all reasons are in ${SKIPPED_FILE} of the folders.`,
    );
  notes.push(...saidOnce(runs, (run) => notesOnRun(run, ids.length)), ...loadNote(runs));
  if (!areInterleaved(runs))
    notes.push(
      'The runs were not interleaved: their times are comparable only if the machine was equally calm.',
    );
  const commits = new Set(runs.flatMap(commitsOf));
  if (commits.size > 1) {
    const ofRuns = runs.map((run) => `${run.name} ${commitsOf(run).join(' and ') || 'unknown'}`);
    notes.push(`The runs come from different commits: ${ofRuns.join(', ')}.`);
  }
  if (new Set(runs.map(({ info }) => info.version)).size > 1) {
    const ofRuns = runs.map(({ name, info }) => `${name} ${info.version}`);
    notes.push(`The runs come from different versions of medusa-plus: ${ofRuns.join(', ')}.`);
  }
  const differing = (['cpu', 'threads', 'onnxruntime'] as const).filter(
    (field) => new Set(runs.map((run) => run.info.machine[field])).size > 1,
  );
  if (differing.length > 0)
    notes.push(`The runs differ in ${differing.join(', ')}: times are not comparable.`);
  return notes;
}

/** The sessions that left something, or that a kill kept from saying so. */
function workingSessions({ info }: LoadedRun): RunInfo['sessions'] {
  return info.sessions.filter(({ ended, finished_questions }) => finished_questions > 0 || ended === null);
}

/** Whether every two runs were at work in the same stretch of time, as those of one `compare` are. */
function areInterleaved(runs: readonly LoadedRun[]): boolean {
  const spans = runs.map((run) => {
    const last = Math.max(0, ...[...run.answers.values()].map(({ tstamp }) => tstamp * 1000));
    return workingSessions(run).map(({ started, ended }) => {
      const start = Date.parse(started);
      return [start, ended === null ? Math.max(start, last) : Date.parse(ended)] as const;
    });
  });
  // Times that cannot be read count as the same.
  const areApart = ([start, end]: Span, [otherStart, otherEnd]: Span): boolean =>
    end < otherStart || otherEnd < start;
  return spans.every((own, index) =>
    spans.slice(0, index).every((others) => !own.every((a) => others.every((b) => areApart(a, b)))),
  );
}

type Span = readonly [start: number, end: number];

/** The commits that a run came from, shortened; of older runs only that of the first session is known. */
function commitsOf(run: LoadedRun): string[] {
  const { environment, sessions } = run.info;
  const commits = workingSessions(run).map((session) =>
    session === sessions[0] ? (session.git_commit ?? environment.git_commit) : session.git_commit,
  );
  return [...new Set(commits)].flatMap((commit) => (commit ? shortCommit(String(commit)) : []));
}

function notesOnRun({ records, info }: LoadedRun, compared: number): string[] {
  const { status, merged_from, missing_shards } = info;
  return [
    ...(records.size > compared
      ? [`${records.size} questions, of which ${compared} are in all runs and counted.`]
      : []),
    ...(status === 'complete' ? [] : [`not complete (${status}).`]),
    ...(merged_from ? [`merged from ${merged_from.length} shards.`] : []),
    ...(missing_shards ? [`merged without shard ${missing_shards.join(', ')}.`] : []),
  ];
}

/** One note, whatever the load was at the start of each run. */
function loadNote(runs: readonly LoadedRun[]): string[] {
  const loads = runs.map(({ info }) => Math.max(0, ...info.sessions.map((each) => each.load_average)));
  const busy = loads.filter((load) => load > 1).sort((a, b) => a - b);
  if (busy.length === 0) return [];
  const names = runs.filter((_, index) => loads[index] > 1).map(({ name }) => name);
  const who = busy.length === runs.length ? 'All runs' : names.join(', ');
  const range = [...new Set([busy[0], busy.at(-1)])].join(' to ');
  return [`${who}: the machine was busy at the start (load average ${range}).`];
}

/** Notes on single runs; what holds for several is said once. */
function saidOnce(runs: readonly LoadedRun[], notesOf: (run: LoadedRun) => string[]): string[] {
  const names = new Map<string, string[]>();
  for (const run of runs) {
    for (const note of notesOf(run)) names.set(note, [...(names.get(note) ?? []), run.name]);
  }
  return [...names].map(
    ([note, each]) => `${each.length === runs.length ? 'All runs' : each.join(', ')}: ${note}`,
  );
}
