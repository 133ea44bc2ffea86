import { ModelError, RuntimeFailure } from '../../util/errors.js';
import type {
  CandidateTree,
  DraftingModel,
  HeadProposals,
  VerifiedRows,
  VerifyOptions,
} from '../../decoding/types.js';
import { chainParents } from '../../decoding/tree/treeMask.js';
import {
  checkPrompt,
  checkRoot,
  checkRows,
  checkTopM,
  checkTree,
  checkTruncation,
  Turn,
} from '../modelChecks.js';
import { backboneInterface, type GraphInterface, headsInterface, KEEP_INTERFACE } from '../graphInterface.js';
import type { HeadsFile, OpenOptions } from '../spec.js';
import { BackboneRunner, type RunRows } from './backboneRunner.js';
import { rowBucket, rowMove, type SharedPlan } from './bindingPlan.js';
import { Buffers } from './buffers.js';
import { CacheMover } from './cacheMover.js';
import { type Device, LOG_ERRORS } from './device.js';
import { HeadsRunner } from './headsRunner.js';
import { IoSession } from './ioSession.js';
import type { OrtApi, Pointer } from './ortApi.js';

/** Prompt rows of one run. */
const PREFILL_ROWS = 256;
/** Most nodes the program ever asks for (`--nodes`); the buffers for them are small. */
const DEFAULT_MAX_NODES = 1024;
/** Nodes that the memory estimate reckons with: the paper's number. */
const USUAL_NODES = 64;

/**
 * The model with its cache on the device: graphs of the shared layout, every input and output bound to memory that is
 * allocated once. A step sends ids, positions and bias in one copy, and receives the chosen tokens in another;
 * GroupQueryAttention writes the rows of a run behind the past, and `keep` moves the accepted ones together on the
 * device.
 */
export class SharedModel implements DraftingModel {
  readonly vocabSize: number;
  readonly headCount: number;
  readonly maxTopM: number;
  private length = 0;
  private readonly turn = new Turn();
  /** Rows verified last, for `keep`. */
  private verified?: number;
  /** Row in the hidden states that `propose` reads. */
  private last?: number;

  private constructor(
    private readonly runners: Runners,
    private readonly plan: SharedPlan,
    readonly contextLength: number,
    private readonly limits: ReturnType<typeof rowLimits>,
    heads: HeadsFile | undefined,
    private readonly release: () => void,
  ) {
    this.vocabSize = plan.shape.vocabSize;
    this.headCount = heads?.count ?? 0;
    this.maxTopM = heads?.maxTopM ?? 0;
  }

  /**
   * Loads the graphs on a device and allocates everything. The device becomes the model's: `dispose` disposes it.
   *
   * @throws ModelError when a graph is missing, damaged or of another kind
   */
  static async open(api: OrtApi, device: Device, options: OpenOptions): Promise<SharedModel> {
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
      const buffers = new Buffers(device, plan, limits.perRun);
      const runners = makeRunners(api, device, sessions, plan, buffers, options);
      cleanup.push(() => {
        runners.backbone.release();
        runners.heads?.release();
      });
      if (device.kind === 'cuda') await takeWorkspace(runners.backbone, plan, limits.prefill);
      return new SharedModel(runners, plan, contextLength, limits, options.heads, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  get cachedLength(): number {
    return this.length;
  }

  get promptRows(): number {
    return this.limits.prefill;
  }

  truncate(length: number): void {
    checkTruncation(length, this.length);
    this.length = length;
    this.verified = undefined;
    this.last = undefined;
  }

  async prefill(ids: ArrayLike<number>, options: VerifyOptions): Promise<VerifiedRows> {
    checkPrompt(ids.length, this.promptRows, this.length, this.contextLength);
    const rows = promptRows(Int32Array.from(ids));
    return this.turn.take(async () => {
      this.verified = undefined;
      const result = await this.runners.backbone.run(rows, this.length, options.logits);
      this.length += rows.ids.length;
      this.last = 0;
      return { rows: 1, vocabSize: this.vocabSize, ...result };
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
      const result = await this.runners.backbone.run(rows, this.length, options.logits);
      this.verified = size;
      return { rows: size, vocabSize: this.vocabSize, ...result };
    });
  }

  async keep(rows: readonly number[]): Promise<void> {
    const { verified } = this;
    if (verified === undefined) throw new RuntimeFailure('keep must follow verify.');
    checkRows(rows, verified);
    await this.turn.take(() => {
      const move = rowMove(rows, this.length);
      if (move) this.runners.mover.move(move);
      this.length += rows.length;
      this.last = rows[rows.length - 1];
      this.verified = undefined;
    });
  }

  async propose(topM: number, root: number): Promise<HeadProposals> {
    const { heads } = this.runners;
    const { last } = this;
    if (!heads) throw new RuntimeFailure('This model was opened without heads.');
    if (last === undefined) throw new RuntimeFailure('propose must follow prefill or keep.');
    checkTopM(topM, this.maxTopM);
    checkRoot(root, this.vocabSize);
    return this.turn.take(() => heads.run(last, root, topM));
  }

  async dispose(): Promise<void> {
    // A call under way still uses the memory.
    await this.turn.rest();
    this.release();
  }

  private checkRoom(nodes: number): void {
    const { perRun } = this.limits;
    if (nodes > perRun) {
      throw new RangeError(`The model was opened for at most ${perRun} nodes; this tree has ${nodes}.`);
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
  { backbone, keep, heads, shape, cudaGraphs: graphs }: OpenOptions,
  cleanup: (() => void)[],
): Promise<Sessions> {
  if (!keep)
    throw new ModelError(`${backbone.path} needs a keep graph, which this model lacks. Prepare it again.`);
  const open = async (path: string, expected: GraphInterface, captured = false): Promise<IoSession> => {
    const session = await IoSession.open(api, environment, device.sessionOptions(captured), path, expected);
    cleanup.push(() => session.release());
    return session;
  };
  return {
    backbone: await open(backbone.path, backboneInterface('shared', shape), graphs),
    keep: await open(keep.path, KEEP_INTERFACE),
    heads: heads && (await open(heads.path, headsInterface(heads), graphs)),
  };
}

interface Runners {
  readonly backbone: BackboneRunner;
  readonly mover: CacheMover;
  readonly heads?: HeadsRunner;
}

function makeRunners(
  api: OrtApi,
  device: Device,
  sessions: Sessions,
  plan: SharedPlan,
  buffers: Buffers,
  { heads, cudaGraphs: graphs = false }: OpenOptions,
): Runners {
  return {
    backbone: new BackboneRunner(api, device, sessions.backbone, plan, buffers, graphs),
    mover: new CacheMover(device, sessions.keep, plan, buffers),
    heads:
      heads && sessions.heads && new HeadsRunner(api, device, sessions.heads, plan, buffers, heads, graphs),
  };
}

/**
 * The largest run first: what ONNX Runtime allocates for it serves all smaller ones. Met in the order of a growing text, each
 * width of the bias would want a larger piece than the last, and the pieces before it would stay taken. It also makes
 * a card that is too small fail here, not in the middle of a text.
 */
async function takeWorkspace(runner: BackboneRunner, { capacity }: SharedPlan, rows: number): Promise<void> {
  await runner.run(promptRows(new Int32Array(rows)), capacity - rows, false);
}

/** A part of a prompt, whose last row's result is wanted. */
function promptRows(ids: Int32Array): RunRows {
  const parents = chainParents(ids.length);
  const depths = parents.map((parent) => parent + 1);
  return { ids, parents, depths, outputRows: [ids.length - 1] };
}

/** Most rows of a part of a prompt, of any run (padding included), and of a usual tree. */
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
  return { shape, capacity, elementBytes: backbone.precision === 'fp16' ? 2 : 4 };
}
