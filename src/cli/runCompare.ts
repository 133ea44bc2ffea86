import { mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import yargs from 'yargs';
import { explainPartings } from '../bench/compare/explain.js';
import { compareRuns, loadRun, type LoadedRun } from '../bench/compare/load.js';
import { makeReport, type Report, type Sweep } from '../bench/compare/report.js';
import { htmlReport } from '../bench/report/html.js';
import { markdownReport } from '../bench/report/markdown.js';
import { terminalReport } from '../bench/report/terminal.js';
import { writeWhole } from '../bench/run/folder.js';
import { runSession } from '../bench/run/session.js';
import {
  nameVariant,
  parseSweep,
  refuseTwins,
  slug,
  splitArguments,
  type Variant,
} from '../bench/run/variants.js';
import { ExitCode, UsageError } from '../errors.js';
import { packageVersion } from '../model/packageRoot.js';
import {
  engineOpener,
  outputFolder,
  readRunArguments,
  readRunDecoding,
  withoutUndefined,
} from './benchArguments.js';
import { variantTexts } from './compare.js';
import { openInspector } from './inspector.js';
import { catchInterrupt } from './interrupt.js';
import {
  decodingOptionSpecs,
  readDecodingOptions,
  modelOptionSpecs,
  readFlag,
  readModelOptions,
  readText,
  readTexts,
  type Arguments,
} from './options.js';

/** A variant and where it stands in a sweep. */
interface PlannedVariant extends Variant {
  readonly point?: { readonly series: string; readonly value: string };
}

/** `medusa-plus compare`: runs what has to be run, then reports. Exit code 3 when outputs differ. */
export async function runCompare(args: Arguments): Promise<void> {
  const folders = readTexts(args, 'folders') ?? [];
  const texts = variantTexts(args);
  if (folders.length === 1) throw new UsageError('compare needs at least two folders, or none at all');
  if (folders.length > 0 && (texts.length > 0 || args.sweep !== undefined)) {
    throw new UsageError('compare takes finished folders or variants to run, not both');
  }
  if (folders.length > 0) await report(args, await loadRuns(folders), null);
  else await runAndReport(args, texts);
}

/** One after the other, so that of several bad folders it is always the first that is named. */
async function loadRuns(folders: readonly string[]): Promise<LoadedRun[]> {
  const runs: LoadedRun[] = [];
  for (const folder of folders) runs.push(await loadRun(folder));
  return runs;
}

async function runAndReport(args: Arguments, texts: readonly string[]): Promise<void> {
  const quiet = readFlag(args, 'quiet') || readFlag(args, 'json');
  const variants = await planVariants(args, texts);
  const run = await readRunArguments(args);
  const output = outputFolder(args, 'compare');
  const folderOf = (variant: Variant): string => join(output, slug(variant.name));
  const interrupt = catchInterrupt();
  try {
    const finished = await runSession({
      ...run,
      variants,
      folderOf,
      trace: readFlag(args, 'trace'),
      quiet,
      signal: interrupt.signal,
      openEngine: engineOpener(quiet, interrupt.signal),
    });
    if (!finished) {
      console.error(
        `Interrupted. The same command with --output ${relative('.', output)} goes on from here.`,
      );
      process.exitCode = ExitCode.interrupted;
      return;
    }
  } finally {
    interrupt.release();
  }
  const runs = await Promise.all(variants.map((variant) => loadRun(folderOf(variant), variant.name)));
  await report({ ...args, output }, runs, sweepOf(args, variants));
}

/** A variant before its words are read. */
interface AskedVariant {
  readonly name: string;
  readonly words: readonly string[];
  readonly point?: PlannedVariant['point'];
}

/** `none`, then the variants asked for (static and dynamic by default), each with each value of the sweep. */
async function planVariants(args: Arguments, texts: readonly string[]): Promise<PlannedVariant[]> {
  const common = await readRunDecoding(args);
  const commonModel = withoutUndefined(readModelOptions(args));
  const axis = readText(args, 'sweep');
  const sweep = axis === undefined ? undefined : parseSweep(axis);
  const asked = (texts.length > 0 ? texts : ['--tree static', '--tree dynamic']).flatMap(
    (text): AskedVariant[] => {
      const { name, words } = namedWords(text);
      if (!sweep) return [{ name, words }];
      return sweep.values.map((value) => ({
        name: `${name} ${sweep.parameter}=${value}`,
        words: [...words, `--${sweep.parameter}`, value],
        point: { series: name, value },
      }));
    },
  );
  const base: AskedVariant = { name: 'none', words: ['--tree', 'none'] };
  const all = asked.some(({ words }) => isBase(words)) ? asked : [base, ...asked];
  const variants: PlannedVariant[] = [];
  for (const { name, words, point } of all) {
    const own = parseWords(words, name);
    variants.push({
      name,
      decoding: ownRanking(common, await readOwnDecoding(own)),
      model: { ...commonModel, ...withoutUndefined(readModelOptions(own)) },
      point,
    });
  }
  refuseTwins(variants);
  return variants;
}

function isBase(words: readonly string[]): boolean {
  return words.join(' ').replace('=', ' ') === '--tree none';
}

/** `NAME:OPTIONS`, or options that name themselves. */
function namedWords(text: string): { name: string; words: string[] } {
  const named = /^([^:=\s-][^:=]*):\s*(-.*)$/s.exec(text);
  const words = splitArguments(named ? named[2] : text);
  return { name: named ? named[1].trim() : nameVariant(words), words };
}

function parseWords(words: readonly string[], name: string): Arguments {
  return yargs([...words])
    .options({ ...modelOptionSpecs, ...decodingOptionSpecs })
    .parserConfiguration({ 'parse-numbers': false, 'parse-positional-numbers': false, 'dot-notation': false })
    .strict()
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail((message: string, error: Error | undefined) => {
      throw new UsageError(`Variant "${name}": ${message ?? error?.message}`);
    })
    .parseSync();
}

/** A joint or lookup given for all variants is meant for the dynamic ones: `none` is always among the others. */
function ownRanking(common: Variant['decoding'], own: Variant['decoding']): Variant['decoding'] {
  const decoding = { ...common, ...own };
  const isDynamic = decoding.treePaths === undefined && (decoding.tree ?? 'dynamic') === 'dynamic';
  return isDynamic ? decoding : withoutUndefined({ ...decoding, joint: own.joint, lookup: own.lookup });
}

async function readOwnDecoding(own: Arguments): Promise<Variant['decoding']> {
  for (const option of ['temperature', 'seed', 'max-new-tokens', 'stop']) {
    if (own[option] !== undefined) {
      throw new UsageError(`--${option} must be the same for all variants: give it outside of them`);
    }
  }
  return withoutUndefined(await readDecodingOptions(own));
}

function sweepOf(args: Arguments, variants: readonly PlannedVariant[]): Sweep | null {
  const axis = readText(args, 'sweep');
  if (axis === undefined) return null;
  return {
    parameter: parseSweep(axis).parameter,
    points: variants.flatMap(({ name, point }) => (point ? [{ ...point, run: name }] : [])),
  };
}

/** Checks identity, writes the reports and prints one. */
async function report(args: Arguments, runs: readonly LoadedRun[], sweep: Sweep | null): Promise<void> {
  const comparison = compareRuns(runs);
  const made = makeReport(comparison, packageVersion(), sweep);
  const differs = made.identity.some(({ outcome }) => outcome === 'different');
  const notes =
    differs && args.explain !== false
      ? await explainPartings(made.identity, comparison, () => openInspector(args, comparison.runs[0]))
      : [];
  const result = { ...made, notes: [...made.notes, ...notes] };
  const output = readText(args, 'output');
  if (output !== undefined) await writeReports(output, result, comparison.runs);
  if (readFlag(args, 'json')) console.log(JSON.stringify(result));
  else if (!readFlag(args, 'quiet')) console.log(terminalReport(result, process.stdout));
  if (output !== undefined && !readFlag(args, 'json')) {
    console.error(
      `Reports: ${['report.html', 'report.md', 'report.json'].map((name) => join(relative('.', output), name)).join(', ')}`,
    );
  }
  if (differs) process.exitCode = ExitCode.outputsDiffer;
}

async function writeReports(output: string, result: Report, runs: readonly LoadedRun[]): Promise<void> {
  await mkdir(output, { recursive: true });
  await writeWhole(join(output, 'report.json'), `${JSON.stringify(result, null, 1)}\n`);
  await writeWhole(join(output, 'report.md'), markdownReport(result));
  await writeWhole(join(output, 'report.html'), htmlReport(result, runs));
}
