/** Reads run folders and lines up the questions they have in common. */
import { access } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
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
    `${who}: ${lines.length} of ${info.questions.ids.length} questions could not be asked and ` +
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
  if (ids.length === 0) throw new MedusaError('The runs have no question in common');
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
  return runs.map((run) => ({ ...run, name: run.folder }));
}

/** Other questions or another protocol make the numbers incomparable; that is an error, not a note. */
function refuseOther(base: LoadedRun, run: LoadedRun): void {
  const checks: [string, (info: RunInfo) => unknown][] = [
    ['questions.sha256', (info) => info.questions.sha256],
    ['protocol.temperature', (info) => info.protocol.temperature],
    ['protocol.repeats', (info) => info.protocol.repeats],
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
  notes.push(...saidOnce(runs, (run) => notesOnRun(run, ids.length)));
  const differing = (['cpu', 'threads', 'onnxruntime'] as const).filter(
    (field) => new Set(runs.map((run) => run.info.machine[field])).size > 1,
  );
  if (differing.length > 0)
    notes.push(`The runs differ in ${differing.join(', ')}: times are not comparable.`);
  return notes;
}

function notesOnRun({ records, info }: LoadedRun, compared: number): string[] {
  const load = Math.max(...info.sessions.map((session) => session.load_average));
  const { status, merged_from, missing_shards } = info;
  return [
    ...(records.size > compared
      ? [`${records.size} questions, of which ${compared} are in all runs and counted.`]
      : []),
    ...(status === 'complete' ? [] : [`not complete (${status}).`]),
    ...(load > 1 ? [`the machine was busy at the start (load average ${load}).`] : []),
    ...(merged_from ? [`merged from ${merged_from.length} shards.`] : []),
    ...(missing_shards ? [`merged without shard ${missing_shards.join(', ')}.`] : []),
  ];
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
