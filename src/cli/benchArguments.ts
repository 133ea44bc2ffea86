import { resolve } from 'node:path';
import { skippedNotes, type LoadedRun } from '../bench/compare/load.js';
import { loadQuestions, parseShard, selectQuestions } from '../bench/questions/load.js';
import type { Question, QuestionSet } from '../bench/questions/parse.js';
import type { OnError, TemperatureRule } from '../bench/run/plan.js';
import { SKIPPED_FILE } from '../bench/run/folder.js';
import type { OpenEngine } from '../bench/run/session.js';
import { MedusaEngine } from '../engine/engine.js';
import { decodingTable, type DecodingOptions } from '../engine/options/decodingOptions.js';
import { promptTable, type PromptOptions } from '../engine/options/generateOptions.js';
import type { ModelOptions } from '../engine/options/modelOptions.js';
import { forQuestions } from '../engine/options/table.js';
import { splitList } from '../engine/options/values.js';
import { ExitCode, UsageError } from '../util/errors.js';
import {
  readDecodingOptions,
  readFlag,
  readNumber,
  readRaw,
  readText,
  readValue,
  type Arguments,
} from './options.js';
import { printError } from './output.js';
import { createReport } from './terminal.js';

const countRange = { integer: true, minimum: 1, maximum: 1_000_000 } as const;

/** What `bench` and `compare` read alike from the command line. */
export interface RunArguments {
  readonly set: QuestionSet;
  readonly questions: readonly Question[];
  readonly temperature: TemperatureRule;
  readonly seed: number;
  readonly repeats: number;
  readonly keepDrafts: boolean;
  readonly raw: boolean;
  readonly thinking: PromptOptions['thinking'];
  readonly onError: OnError;
  readonly shard: string | undefined;
}

export async function readRunArguments(args: Arguments): Promise<RunArguments> {
  const shard = readText(args, 'shard');
  const { temperature: heat, seed: seeds } = decodingTable;
  const rule = readValue(args, 'temperature', forQuestions(heat)) as TemperatureRule | undefined;
  const seed = readNumber(args, 'seed', seeds.range) ?? seeds.forQuestions.default;
  const repeats = readNumber(args, 'repeat', countRange) ?? 1;
  const set = await loadQuestions(readText(args, 'questions') ?? 'builtin');
  const categories = readText(args, 'categories');
  const questions = selectQuestions(set, {
    categories: categories === undefined ? undefined : splitList(categories),
    limit: readNumber(args, 'limit', countRange),
    shard: shard === undefined ? undefined : parseShard(shard),
  });
  const onError = readText(args, 'on-error') === 'stop' ? 'stop' : 'skip';
  const [keepDrafts, raw] = [readFlag(args, 'keep-drafts'), readRaw(args)];
  const thinking = readValue(args, 'thinking', promptTable.thinking) as PromptOptions['thinking'];
  const temperature = rule ?? heat.default;
  return { set, questions, temperature, seed, repeats, keepDrafts, raw, thinking, onError, shard };
}

/** Says what was skipped, unless a report on the terminal does; a run without all its questions ends with 1. */
export function tellSkipped(runs: readonly LoadedRun[], isInReport = false): void {
  const notes = skippedNotes(runs);
  if (notes.length === 0) return;
  if (!isInReport) printError([...notes, `All reasons are in ${SKIPPED_FILE} of the folder.`].join('\n'));
  process.exitCode ??= ExitCode.failure;
}

/** Decoding options without temperature and seed, which the protocol sets question by question. */
export async function readRunDecoding(args: Arguments): Promise<DecodingOptions> {
  const decoding = await readDecodingOptions({ ...args, temperature: undefined, seed: undefined });
  return { maxNewTokens: decodingTable.maxNewTokens.forQuestions.default, ...decoding };
}

/** The folder asked for, or a new one named after the time and the matter. */
export function outputFolder(args: Arguments, what: string): string {
  const given = readText(args, 'output');
  if (given !== undefined) return resolve(given);
  const time = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return resolve('runs', `${time}-${what}`);
}

/** Opens the real engine, with its preparation shown on stderr. */
export function engineOpener(
  { quiet, raw }: { quiet: boolean; raw: boolean },
  signal: AbortSignal,
): (options: ModelOptions) => Promise<OpenEngine> {
  return async (options) => {
    const report = quiet ? undefined : createReport();
    // Runs are compared: their threads stay as they are.
    const opening = MedusaEngine.open({ ...options, followLoad: false, report, signal });
    const engine = await opening.finally(() => report?.end());
    // Tells of a template that is not the model's own while there is no bar yet.
    if (!raw) engine.encodePrompt('Hi');
    return { engine, tokenText: (ids) => engine.tokenizer.decode([...ids]) };
  };
}

export function requireText(args: Arguments, name: string, hint: string): string {
  const text = readText(args, name);
  if (text === undefined) throw new UsageError(`${name} is missing: ${hint}`);
  return text;
}
