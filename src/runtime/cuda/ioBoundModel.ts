import { ModelError, RuntimeFailure } from '../../errors.js';
import type {
  CandidateTree,
  DraftingModel,
  HeadProposals,
  VerifiedRows,
  VerifyOptions,
} from '../../decoding/types.js';
import { chainParents, writeInt64 } from '../../decoding/treeMask.js';
import {
  checkPrompt,
  checkRoot,
  checkRows,
  checkTopM,
  checkTree,
  checkTruncation,
  Turn,
} from '../context.js';
import { backboneInterface, type GraphInterface, headsInterface, KEEP_INTERFACE } from '../graphInterface.js';
import { toInt32 } from '../int64.js';
import type { HeadsFile, OpenOptions } from '../spec.js';
import type { BackboneRunner } from './backboneRunner.js';
import { cacheBlocks, rowBucket, rowMove, type SharedPlan } from './bindingPlan.js';
import { BoundRunner } from './boundRunner.js';
import { Buffers, floatType } from './buffers.js';
import { type Device, LOG_ERRORS } from './device.js';
import { type IoBinding, IoSession } from './ioSession.js';
import { PackedRunner } from './packedRunner.js';
import { ElementType, type OrtApi, type Pointer } from './ortApi.js';

/** Prompt rows of one run. */
const PREFILL_ROWS = 256;
/** Most nodes the program ever asks for (`--nodes`); the buffers for them are small. */
const DEFAULT_MAX_NODES = 1024;
/** Nodes that the memory estimate reckons with: the paper's number. */
const USUAL_NODES = 64;

/**
 * The model with its cache on the device: graphs of the shared layout, every input and output bound to memory that is
 * allocated once. A step sends ids, positions and bias, and receives the chosen tokens (see `DeviceSteps` for how);
 * GroupQueryAttention writes the rows of a run behind the past, and `keep` moves the accepted ones together on the
 * device.
 */
export class IoBoundModel implements DraftingModel {
  readonly vocabSize: number;
  readonly headCount: number;
  readonly maxTopM: number;
  private length = 0;
  private readonly turn = new Turn();
  /** Rows verified last, for `keep`. */
  private verified?: number;
  /** Row in the hidden states that `propose` reads, and how many there are. */
  private last?: { readonly row: number; readonly rows: number };

  private readonly keepBinding: IoBinding;
  private readonly headsBinding?: IoBinding;
  private readonly contextSize: number | undefined;
  private readonly readsToken: boolean;

  private constructor(
    private readonly sessions: Sessions,
    private readonly runner: BackboneRunner,
    private readonly buffers: Buffers,
    private readonly plan: SharedPlan,
    readonly contextLength: number,
    private readonly prefillRows: number,
    heads: Pick<HeadsFile, 'count' | 'maxTopM' | 'contextSize' | 'readsToken'>,
    private readonly release: () => void,
  ) {
    this.vocabSize = plan.shape.vocabSize;
    this.headCount = heads.count;
    this.maxTopM = heads.maxTopM;
    this.contextSize = heads.contextSize;
    this.readsToken = heads.readsToken ?? false;
    this.keepBinding = sessions.keep.newBinding();
    this.headsBinding = sessions.heads?.newBinding();
    const whole = [cacheBlocks(plan.shape), plan.capacity, plan.shape.headDim];
    this.keepBinding.bindInput('cache', buffers.cache, floatType(plan), whole);
    this.keepBinding.bindOutput('cache_out', buffers.cache, floatType(plan), whole);
  }

  /**
   * Loads the graphs on a device and allocates everything. The device becomes the model's: `dispose` disposes it.
   *
   * @throws ModelError when a graph is missing, damaged or of another kind
   */
  static async open(api: OrtApi, device: Device, options: OpenOptions): Promise<IoBoundModel> {
    const cleanup: (() => void)[] = [() => device.dispose()];
    const release = (): void => {
      for (const step of cleanup.splice(0).reverse()) step();
    };
    try {
      const plan = planFor(options);
      const contextLength = Math.min(
        options.contextLength ?? plan.capacity,
        options.shape.contextLength,
        plan.capacity,
      );
      const limits = rowLimits(options, plan);
      const environment = api.create('CreateEnv', LOG_ERRORS, 'medusa-plus');
      cleanup.push(() => api.release('ReleaseEnv', environment));
      const sessions = await openSessions(api, environment, device, options, cleanup);
      const buffers = new Buffers(device, plan, limits.perRun, options.heads);
      const runner = makeRunner(api, device, sessions.backbone, plan, buffers, options.deviceSteps);
      cleanup.push(() => runner.release());
      const heads = options.heads ?? { count: 0, maxTopM: 0 };
      return new IoBoundModel(sessions, runner, buffers, plan, contextLength, limits.prefill, heads, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  get cachedLength(): number {
    return this.length;
  }

  /** Milliseconds spent inside ONNX Runtime's runs so far, of all graphs: the rest of a step is this program's. */
  get runTime(): number {
    const { backbone, keep, heads } = this.sessions;
    return backbone.runTime + keep.runTime + (heads?.runTime ?? 0);
  }

  truncate(length: number): void {
    checkTruncation(length, this.length);
    this.length = length;
    this.verified = undefined;
    this.last = undefined;
  }

  async prefill(ids: ArrayLike<number>, options: VerifyOptions): Promise<VerifiedRows> {
    checkPrompt(ids.length, this.length, this.contextLength);
    const prompt = Int32Array.from(ids);
    return this.turn.take(async () => {
      this.verified = undefined;
      for (let start = 0; ; start += this.prefillRows) {
        const chunk = prompt.subarray(start, start + this.prefillRows);
        const rows = chunk.length;
        const last = start + rows === prompt.length;
        const parents = chainParents(rows);
        const depths = parents.map((parent) => parent + 1);
        const logits = last && options.logits;
        const result = await this.runner.run(
          { ids: chunk, parents, depths, outputRows: [rows - 1] },
          this.length,
          logits,
        );
        this.length += rows;
        if (!last) continue;
        this.last = { row: 0, rows: 1 };
        return { rows: 1, vocabSize: this.vocabSize, ...result };
      }
    });
  }

  async verify(tree: CandidateTree, options: VerifyOptions): Promise<VerifiedRows> {
    checkTree(tree, this.length, this.contextLength);
    const { size, tokens, parents, depths } = tree;
    this.checkRoom(size);
    return this.turn.take(async () => {
      this.last = undefined;
      const outputRows = Array.from({ length: size }, (_, row) => row);
      const rows = { ids: tokens, parents, depths, outputRows };
      const result = await this.runner.run(rows, this.length, options.logits);
      this.verified = size;
      return { rows: size, vocabSize: this.vocabSize, ...result };
    });
  }

  async keep(rows: readonly number[]): Promise<void> {
    const { verified } = this;
    if (verified === undefined) throw new RuntimeFailure('keep must follow verify.');
    checkRows(rows, verified);
    await this.turn.take(async () => {
      const move = rowMove(rows, this.length);
      if (move) await this.move(move.from, move.to);
      this.length += rows.length;
      this.last = { row: rows[rows.length - 1], rows: verified };
      this.verified = undefined;
    });
  }

  async propose(topM: number, root: number): Promise<HeadProposals> {
    const { buffers, last, plan, headCount, contextSize, headsBinding: binding } = this;
    if (!binding) throw new RuntimeFailure('This model was opened without heads.');
    if (!last) throw new RuntimeFailure('propose must follow prefill or keep.');
    checkTopM(topM, this.maxTopM);
    checkRoot(root, this.vocabSize);
    return this.turn.take(async () => {
      buffers.row.int64[0] = BigInt(last.row);
      buffers.topM.int64[0] = BigInt(topM);
      binding.bindInput('hidden', buffers.hidden, floatType(plan), [last.rows, plan.shape.hiddenSize]);
      binding.bindInput('row', buffers.row, ElementType.int64, [1]);
      binding.bindInput('top_m', buffers.topM, ElementType.int64, [1]);
      if (this.readsToken) {
        buffers.token.int64[0] = BigInt(root);
        binding.bindInput('token', buffers.token, ElementType.int64, [1]);
      }
      binding.bindOutput('top_ids', buffers.topIds, ElementType.int64, [headCount, topM]);
      binding.bindOutput('top_probs', buffers.topProbabilities, ElementType.float32, [headCount, topM]);
      if (contextSize !== undefined) {
        binding.bindOutput('context', buffers.contexts, ElementType.float32, [headCount, contextSize]);
      }
      await binding.run();
      return {
        heads: headCount,
        topM,
        ids: toInt32(buffers.topIds.int64, headCount * topM),
        probabilities: buffers.topProbabilities.float32.slice(0, headCount * topM),
        ...(contextSize !== undefined && {
          contexts: buffers.contexts.float32.slice(0, headCount * contextSize),
        }),
      };
    });
  }

  async dispose(): Promise<void> {
    // A run on the worker thread still uses the memory.
    await this.turn.rest();
    this.release();
  }

  private async move(from: readonly number[], to: number): Promise<void> {
    const { buffers, plan, keepBinding } = this;
    const blocks = cacheBlocks(plan.shape);
    writeInt64(buffers.keepRows.int64, from, from.length);
    buffers.writeIndices.int64.fill(BigInt(to));
    keepBinding.bindInput('rows', buffers.keepRows, ElementType.int64, [from.length]);
    keepBinding.bindInput('write_indices', buffers.writeIndices, ElementType.int64, [blocks]);
    await keepBinding.run();
  }

  private checkRoom(nodes: number): void {
    const { maxRows } = this.buffers;
    if (nodes > maxRows) {
      throw new RangeError(`The model was opened for at most ${maxRows} nodes; this tree has ${nodes}.`);
    }
    if (this.length + nodes > this.plan.capacity) {
      throw new RangeError(
        `A tree of ${nodes} nodes after ${this.length} tokens does not fit the cache of ${this.plan.capacity}.`,
      );
    }
  }
}

interface Sessions {
  readonly backbone: IoSession;
  readonly keep: IoSession;
  readonly heads?: IoSession;
}

async function openSessions(
  api: OrtApi,
  environment: Pointer,
  device: Device,
  { backbone, keep, heads, shape, deviceSteps }: OpenOptions,
  cleanup: (() => void)[],
): Promise<Sessions> {
  if (!keep)
    throw new ModelError(`${backbone.path} needs a keep graph, which this model lacks. Prepare it again.`);
  const open = async (path: string, expected: GraphInterface, graphs = false): Promise<IoSession> => {
    const session = await IoSession.open(api, environment, device.sessionOptions(graphs), path, expected);
    cleanup.push(() => session.release());
    return session;
  };
  return {
    backbone: await open(backbone.path, backboneInterface('shared', shape), deviceSteps === 'graphs'),
    keep: await open(keep.path, KEEP_INTERFACE),
    heads: heads && (await open(heads.path, headsInterface(heads))),
  };
}

function makeRunner(
  api: OrtApi,
  device: Device,
  backbone: IoSession,
  plan: SharedPlan,
  buffers: Buffers,
  steps: OpenOptions['deviceSteps'] = 'bound',
): BackboneRunner {
  if (steps === 'bound') return new BoundRunner(device, backbone, plan, buffers);
  return new PackedRunner(api, device, backbone, plan, buffers, steps === 'graphs');
}

/** Most rows of a prompt chunk, of any run (padding included), and of a usual tree. */
export function rowLimits(
  { prefillRows, maxNodes }: OpenOptions,
  { capacity }: SharedPlan,
): { prefill: number; perRun: number; usual: number } {
  const prefill = Math.min(prefillRows ?? PREFILL_ROWS, capacity);
  const nodes = Math.min(maxNodes ?? DEFAULT_MAX_NODES, capacity);
  return { prefill, perRun: rowBucket(Math.max(prefill, nodes)), usual: Math.min(nodes, USUAL_NODES) };
}

/** @throws ModelError when the backbone has another layout or no capacity */
export function planFor({ backbone, shape, contextLength }: OpenOptions): SharedPlan {
  if (backbone.layout !== 'shared') {
    throw new ModelError(
      `${backbone.path} has the layout "${backbone.layout}"; the device path needs "shared".`,
    );
  }
  const capacity = backbone.capacity ?? contextLength ?? shape.contextLength;
  return {
    shape,
    capacity,
    elementBytes: backbone.precision === 'fp16' ? 2 : 4,
    wholeBias: backbone.attention === 'attention-24',
  };
}
