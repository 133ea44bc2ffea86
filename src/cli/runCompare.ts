import { mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { explainMismatches } from '../bench/compare/explain.js';
import { compareRuns, loadRun, type LoadedRun } from '../bench/compare/load.js';
import { makeReport } from '../bench/compare/makeReport.js';
import type { Report, Sweep } from '../bench/compare/report.js';
import { htmlReport } from '../bench/report/html.js';
import { markdownReport } from '../bench/report/markdown.js';
import { terminalReport } from '../bench/report/terminal.js';
import { writeRunFile } from '../bench/run/folder.js';
import { checkReportFiles } from '../bench/run/reportFiles.js';
import { runSession } from '../bench/run/session.js';
import { folderNames, parseSweep, REPORT_FILES, type Variant } from '../bench/run/variants.js';
import { ExitCode, UsageError } from '../util/errors.js';
import { packageVersion } from '../util/packageRoot.js';
import { runOptionSpecs } from './bench.js';
import { engineOpener, outputFolder, readRunArguments, tellSkipped } from './benchArguments.js';
import { planVariants, type PlannedVariant } from './compareVariants.js';
import { openInspector } from './inspector.js';
import { catchInterrupt } from './interrupt.js';
import { print, printError, printJson } from './output.js';
import { readFlag, readText, readTexts, type Arguments } from './options.js';

/** Options of a run that a comparison of finished ones has, too. */
const reportOptions: readonly string[] = ['output', 'quiet', 'json'];

/**
 * `medusa-plus compare`: runs what has to be run, then reports. Exit code 3 when outputs differ.
 *
 * @param texts the options of each variant
 */
export async function runCompare(args: Arguments, texts: readonly string[]): Promise<void> {
  const folders = readTexts(args, 'folders') ?? [];
  if (folders.length === 1) throw new UsageError('compare needs at least two folders, or none at all');
  if (folders.length > 0 && (texts.length > 0 || args.sweep !== undefined)) {
    throw new UsageError('compare takes finished folders or variants to run, not both');
  }
  const output = readText(args, 'output');
  if (output !== undefined) await checkReportFiles(output);
  if (folders.length > 0) {
    refuseRunOptions(args);
    await report(args, await loadRuns(folders), null, []);
  } else {
    await runAndReport(args, texts);
  }
}

function refuseRunOptions(args: Arguments): void {
  const useless = Object.keys(runOptionSpecs('compare')).filter(
    (name) => args[name] !== undefined && !reportOptions.includes(name),
  );
  if (useless.length === 0) return;
  throw new UsageError(
    `compare takes finished folders or options of runs to make, not both; leave out --${useless.join(', --')}`,
  );
}

/** One after the other, so that of several bad folders it is always the first that is named. */
async function loadRuns(folders: readonly string[]): Promise<LoadedRun[]> {
  const runs: LoadedRun[] = [];
  for (const folder of folders) runs.push(await loadRun(folder));
  return runs;
}

async function runAndReport(args: Arguments, texts: readonly string[]): Promise<void> {
  const quiet = readFlag(args, 'quiet') || readFlag(args, 'json');
  const { variants, leftOut } = await planVariants(args, texts);
  const run = await readRunArguments(args);
  const output = outputFolder(args, 'compare');
  const names = folderNames(variants.map(({ name }) => name));
  const folderOf = ({ name }: Variant): string => join(output, names.get(name)!);
  for (const note of quiet ? [] : leftOut) printError(note);
  const interrupt = catchInterrupt();
  try {
    const finished = await runSession({
      ...run,
      variants,
      folderOf,
      trace: readFlag(args, 'trace'),
      quiet,
      signal: interrupt.signal,
      openEngine: engineOpener({ quiet, raw: run.raw }, interrupt.signal),
    });
    if (!finished) {
      printError(`Interrupted. The same command with --output ${relative('.', output)} goes on from here.`);
      process.exitCode = ExitCode.interrupted;
      return;
    }
  } finally {
    interrupt.release();
  }
  const runs = await Promise.all(variants.map((variant) => loadRun(folderOf(variant), variant.name)));
  tellSkipped(runs, !quiet);
  await report({ ...args, output }, runs, sweepOf(args, variants), leftOut);
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
async function report(
  args: Arguments,
  runs: readonly LoadedRun[],
  sweep: Sweep | null,
  leftOut: readonly string[],
): Promise<void> {
  const comparison = compareRuns(runs);
  const made = makeReport(comparison, packageVersion(), sweep);
  const differs = made.identity.some(({ outcome }) => outcome === 'different');
  const notes =
    differs && args.explain !== false
      ? await explainMismatches(made.identity, comparison, () => openInspector(args, comparison.runs[0]))
      : [];
  const result = { ...made, notes: [...made.notes, ...leftOut, ...notes] };
  const output = readText(args, 'output');
  if (output !== undefined) await writeReports(output, result, comparison.runs);
  if (readFlag(args, 'json')) printJson(result);
  else if (!readFlag(args, 'quiet')) print(terminalReport(result, process.stdout));
  if (output !== undefined && !readFlag(args, 'json')) {
    printError(`Reports: ${REPORT_FILES.map((name) => join(relative('.', output), name)).join(', ')}`);
  }
  if (differs) process.exitCode = ExitCode.outputsDiffer;
}

async function writeReports(output: string, result: Report, runs: readonly LoadedRun[]): Promise<void> {
  await mkdir(output, { recursive: true });
  await writeRunFile(join(output, 'report.json'), `${JSON.stringify(result, null, 1)}\n`);
  await writeRunFile(join(output, 'report.md'), markdownReport(result));
  await writeRunFile(join(output, 'report.html'), htmlReport(result, runs));
}
