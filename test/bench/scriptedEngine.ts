/** An engine that plays generations by rote, and writes down what it was asked. */
import type { BenchEngine } from '../../src/bench/engine.js';
import type { CandidateTree, DecodeStep } from '../../src/decoding/types.js';
import type { GenerationResult, Message } from '../../src/engine/engine.js';
import type { GenerateOptions } from '../../src/engine/options/generateOptions.js';

/** Tokens of each turn by the number of messages before it, cut by max new tokens. */
export type Script = (messages: readonly Message[], options: GenerateOptions) => number[];

export interface Call {
  readonly messages: readonly Message[];
  readonly options: GenerateOptions;
  readonly afterForget: boolean;
}

/** Each step accepts at most this many nodes below the root. */
const DEPTH = 2;

export class ScriptedEngine implements BenchEngine {
  readonly calls: Call[] = [];
  disposed = false;
  private forgotten = false;

  constructor(
    private readonly script: Script = (messages) => [5, 6, 7, 8, 9, 10 + messages.length],
    private readonly modelFolder = '/nowhere',
    private readonly threads = 1,
  ) {}

  get facts(): BenchEngine['facts'] {
    return {
      model: 'scripted',
      modelFolder: this.modelFolder,
      provider: 'cpu',
      precision: 'fp32',
      heads: 'rote',
      headCount: 4,
      maxTopM: 32,
      hasConditional: false,
      threads: this.threads,
      calmThreads: 1,
      costs: [{ nodes: 1, milliseconds: 2 }],
      exactRows: true,
      contextLength: 1000,
    };
  }

  forget(): void {
    this.forgotten = true;
  }

  async complete(messages: readonly Message[], options: GenerateOptions): Promise<GenerationResult> {
    await Promise.resolve();
    this.calls.push({ messages: [...messages], options, afterForget: this.forgotten });
    this.forgotten = false;
    const aborted = options.signal?.aborted === true;
    const tokens = aborted ? [] : this.script(messages, options).slice(0, options.maxNewTokens);
    const steps = stepsOf(tokens, options.tree === 'none' ? 0 : DEPTH);
    for (const step of steps) options.onStep?.(step);
    const verified = steps.slice(1);
    const acceptLengths = verified.map((step) => step.tokens.length);
    return {
      text: tokens.join(' '),
      tokenIds: tokens,
      promptTokenIds: [1, 2, 3],
      timeToFirstToken: 4,
      options: {} as GenerationResult['options'],
      statistics: {
        promptTokens: 3,
        cachedPromptTokens: 0,
        newTokens: tokens.length,
        steps: verified.length,
        inferences: verified.length + 1,
        tokensPerStep: 0,
        tokensPerInference: 0,
        acceptLengths,
        nodeCounts: verified.map((step) => step.tree!.size),
        finishReason: aborted ? 'aborted' : 'eos',
        times: times(verified.length),
        prefillTime: 2,
        wallTime: 2 + 10 * verified.length,
      },
    };
  }

  dispose(): Promise<void> {
    this.disposed = true;
    return Promise.resolve();
  }
}

function times(count: number): DecodeStep['times'] {
  return { heads: count, tree: 0, backbone: 8 * count, accept: 0, keep: count, rest: 0 };
}

/** The prefill, then steps of up to `depth` accepted nodes and a bonus. */
function stepsOf(tokens: readonly number[], depth: number): DecodeStep[] {
  if (tokens.length === 0) return [];
  const steps: DecodeStep[] = [{ index: 0, tokens: [tokens[0]], times: times(0) }];
  for (let position = 1; position < tokens.length;) {
    const added = tokens.slice(position, position + depth + 1);
    const path = [tokens[position - 1], ...added.slice(0, -1)];
    steps.push({
      index: steps.length,
      tokens: added,
      tree: chain(path),
      accepted: { rows: path.map((_, row) => row), bonus: added[added.length - 1] },
      ...(depth > 0 ? { proposals: proposals(tokens, position) } : {}),
      times: times(1),
    });
    position += added.length;
  }
  return steps;
}

/** Two heads with two candidates: the right token first for head 0, second for head 1. */
function proposals(tokens: readonly number[], position: number): DecodeStep['proposals'] {
  const next = tokens[position];
  const after = tokens[position + 1] ?? 999;
  return {
    heads: 2,
    topM: 2,
    ids: Int32Array.from([next, 998, 997, after]),
    probabilities: Float32Array.from([0.6, 0.2, 0.5, 0.3]),
  };
}

function chain(path: readonly number[]): CandidateTree {
  return {
    size: path.length,
    tokens: Int32Array.from(path),
    parents: Int32Array.from(path, (_, row) => row - 1),
    depths: Int32Array.from(path, (_, row) => row),
    ranks: Int32Array.from(path, (_, row) => row - 1),
    probabilities: Float32Array.from(path, (_, row) => 0.5 ** row),
  };
}
