import type { DecodeStep } from '../decoding/types.js';
import { MedusaEngine, type GenerationResult } from '../engine/engine.js';
import type { DecodingOptions } from '../engine/options/decodingOptions.js';
import { expandPaper } from '../engine/options/paper.js';
import { ExitCode, UsageError } from '../util/errors.js';
import { styled } from '../util/terminalText.js';
import { catchInterrupt } from './interrupt.js';
import { promptTable, type PromptOptions } from '../engine/options/generateOptions.js';
import {
  readDecodingOptions,
  readFlag,
  readModelOptions,
  readRaw,
  readText,
  readValue,
  type Arguments,
} from './options.js';
import { AnswerOutput, printError, printJson, writeError } from './output.js';
import { readPrompt } from './prompt.js';
import { generationJson, summaryLine } from './summary.js';
import { createReport, stderrColors, type TerminalReport } from './terminal.js';
import type { TreePrinter } from './showTree.js';

/** `medusa-plus generate`: text on stdout as it is accepted, everything else on stderr. */
export async function runGenerate(args: Arguments): Promise<void> {
  const raw = readRaw(args);
  const system = readText(args, 'system');
  const thinking = readValue(args, 'thinking', promptTable.thinking) as PromptOptions['thinking'];
  const [asJson, quiet, showTree] = ['json', 'quiet', 'show-tree'].map((name) => readFlag(args, name));
  const modelOptions = await readModelOptions(args);
  const decoding = expandPaper(await readDecodingOptions(args));
  const prompt = await readPrompt({ argument: readArgument(args), file: readText(args, 'file'), raw });

  const interrupt = catchInterrupt();
  const { signal } = interrupt;
  const report = quiet ? undefined : createReport();
  let engine: MedusaEngine | undefined;
  try {
    engine = await MedusaEngine.open({
      ...modelOptions,
      maxNodes: mostNodes(decoding),
      measure: modelOptions.threads === undefined || needsCosts(decoding),
      report,
      signal,
    }).finally(() => report?.end());
    const printer = showTree ? await treePrinter(engine) : undefined;
    // Trees and text would get into each other's way on a terminal: the text waits.
    const streams = !asJson && !showTree;
    const onStep = printer && ((step: DecodeStep) => writeError(printer.draw(step)));
    const onPrompt = process.stderr.isTTY && report ? promptProgress(report) : undefined;
    const output = new AnswerOutput(readFlag(args, 'raw-output'));
    let result: GenerationResult | undefined;
    for await (const chunk of engine.generate(prompt, {
      ...decoding,
      system,
      raw,
      thinking,
      signal,
      onStep,
      onPrompt,
    })) {
      if (chunk.kind === 'end') result = chunk.result;
      else if (streams) await output.write(chunk.text);
    }
    if (result === undefined) throw new Error('The generation ended without a result.');
    if (asJson) {
      printJson(generationJson(result, engine.facts));
    } else {
      if (!streams) await output.write(result.text);
      await output.end();
    }
    if (!quiet && !asJson) printError(styled(stderrColors().dim, summaryLine(result, engine.facts)));
    if (signal.aborted) process.exitCode = ExitCode.interrupted;
  } finally {
    interrupt.release();
    await engine?.dispose();
  }
}

/** Imported only when trees are to be drawn. */
async function treePrinter({ tokenizer }: MedusaEngine): Promise<TreePrinter> {
  const { TreePrinter } = await import('./showTree.js');
  return new TreePrinter(tokenizer, stderrColors());
}

/** Shows how far a prompt that takes more than one part has been read, until it has been. */
function promptProgress(report: TerminalReport): (done: number, of: number) => void {
  let hasBegun = false;
  return (done, of) => {
    if (done === of) return report.end();
    if (!hasBegun) report.begin(`Reading the prompt (${of} tokens)`);
    hasBegun = true;
    report.progress(done / of);
  };
}

/** The prompt argument. The parser gives true for a lone dash, and puts what stands behind `--` into `_`. */
function readArgument(args: Arguments): string | undefined {
  const given = [args.prompt, ...(args._ as unknown[]).slice(1)].filter((each) => each !== undefined);
  if (given.length > 1) throw new UsageError('Give one prompt: put it in quotes when it has several words.');
  return given[0] === true ? '-' : (given[0] as string | undefined);
}

/** Whether the size of trees is to be chosen by what they cost. */
const needsCosts = ({ tree, nodes = 'auto', treePaths }: DecodingOptions): boolean =>
  tree !== 'none' && nodes === 'auto' && treePaths === undefined;

/** The largest tree these options ask for, as far as they say. */
function mostNodes({ nodes, treePaths }: DecodingOptions): number {
  return Math.max(typeof nodes === 'number' ? nodes : 0, (treePaths?.length ?? 0) + 1);
}
