import { relative } from 'node:path';
import { mergeRuns } from '../bench/run/merge.js';
import { runSession } from '../bench/run/session.js';
import { nameVariant, slug } from '../bench/run/variants.js';
import { loadRun } from '../bench/compare/load.js';
import { measureRun } from '../bench/compare/measure.js';
import { counted } from '../bench/report/table.js';
import { benchSummary } from '../bench/report/terminal.js';
import { expandPaper } from '../engine/options/paper.js';
import { ExitCode } from '../util/errors.js';
import {
  engineOpener,
  outputFolder,
  readRunArguments,
  readRunDecoding,
  requireText,
  tellSkipped,
} from './benchArguments.js';
import { catchInterrupt } from './interrupt.js';
import { print, printError, printJson } from './output.js';
import { readFlag, readModelOptions, readText, readTexts, type Arguments } from './options.js';

/** `medusa-plus bench`: the bar on stderr, the summary on stdout, everything else in the folder. */
export async function runBench(args: Arguments): Promise<void> {
  const [quiet, json, trace] = ['quiet', 'json', 'trace'].map((name) => readFlag(args, name));
  const model = await readModelOptions(args);
  const decoding = expandPaper(await readRunDecoding(args));
  const run = await readRunArguments(args);
  const name = variantName(args);
  const folder = outputFolder(args, slug(name));
  const interrupt = catchInterrupt();
  try {
    const finished = await runSession({
      ...run,
      variants: [{ name, decoding, model }],
      folderOf: () => folder,
      trace,
      modelId: readText(args, 'model-id'),
      quiet: quiet || json,
      signal: interrupt.signal,
      openEngine: engineOpener({ quiet, raw: run.raw }, interrupt.signal),
    });
    if (!finished) {
      printError(`Interrupted. The same command with --output ${relative('.', folder)} goes on from here.`);
      process.exitCode = ExitCode.interrupted;
    }
    await printSummary(folder, { json, quiet });
  } finally {
    interrupt.release();
  }
}

async function printSummary(
  folder: string,
  { json, quiet }: { json: boolean; quiet: boolean },
): Promise<void> {
  const run = await loadRun(folder);
  tellSkipped([run]);
  if (run.records.size === 0) return;
  const measures = measureRun(run, [...run.records.keys()]);
  if (json) {
    const { status, model, decoding, protocol, machine } = run.info;
    const skipped = run.skipped?.size;
    printJson({ folder, status, model, decoding, protocol, machine, skipped, ...measures });
  } else if (!quiet) {
    print(benchSummary(run, measures));
  }
}

/** The options that make this run different, as `compare` would name it. */
function variantName(args: Arguments): string {
  const words = ['tree', 'nodes', 'acceptance'].flatMap((option) => {
    const value = readText(args, option);
    return value === undefined ? [] : [`--${option}`, value];
  });
  return nameVariant(readFlag(args, 'paper') ? [...words, '--paper'] : words);
}

export async function runMerge(args: Arguments): Promise<void> {
  const output = requireText(args, 'output', 'name a new folder');
  const info = await mergeRuns(readTexts(args, 'folders') ?? [], output, {
    unfinished: readFlag(args, 'unfinished'),
  });
  print(`${output}: ${counted(info.questions.ids.length, 'question')}`);
  if (info.missing_shards)
    printError(`Without shard ${info.missing_shards.join(', ')}: not all questions are there.`);
}
