import { ModelError, RuntimeFailure } from '../../errors.js';
import type {
  CandidateTree,
  DraftingModel,
  HeadProposals,
  VerifiedRows,
  VerifyOptions,
} from '../../decoding/types.js';
import { chainParents, fillTreeBias, sharedLayout, writeInt64 } from '../../decoding/treeMask.js';
import { checkPrompt, checkRows, checkTopM, checkTree, checkTruncation, Turn } from '../context.js';
import { backboneInterface, HEADS_INTERFACE, KEEP_INTERFACE } from '../graphInterface.js';
import { toInt32 } from '../int64.js';
import type { OpenOptions } from '../spec.js';
import { biasColumns, cacheBlocks, cacheOffset, rowMove, type SharedPlan } from './bindingPlan.js';
import { Buffers } from './buffers.js';
import { type Device, LOG_ERRORS } from './device.js';
import { IoSession } from './ioSession.js';
import { ElementType, type OrtApi, type Pointer } from './ortApi.js';

/** Prompt rows of one run. */
const PREFILL_ROWS = 256;
/** Most nodes the program ever asks for (`--nodes`); the buffers for them are small. */
const DEFAULT_MAX_NODES = 1024;
/** Nodes that the memory estimate reckons with: the paper's number. */
const USUAL_NODES = 64;

/**
 * The model with its cache on the device: graphs of the shared layout, every input and output bound to memory that is
 * allocated once. A step sends ids, positions and bias, and receives the chosen tokens; GroupQueryAttention writes
 * the rows of a run behind the past, and `keep` moves the accepted ones together on the device.
 */
export class IoBoundModel implements DraftingModel {
  readonly vocabSize: number;
  readonly headCount: number;
  readonly maxTopM: number;
  private length = 0;
  private readonly turn = new Turn();
  /** What the inputs of `bindWhenNew` hold. */
  private readonly contents = new Map<string, string>();
  /** Rows verified last, for `keep`. */
  private verified?: number;
  /** Row in the hidden states that `propose` reads, and how many there are. */
  private last?: { readonly row: number; readonly rows: number };

  private constructor(
    private readonly sessions: Sessions,
    private readonly buffers: Buffers,
    private readonly plan: SharedPlan,
    readonly contextLength: number,
    private readonly prefillRows: number,
    heads: { readonly count: number; readonly maxTopM: number },
    private readonly release: () => void,
  ) {
    this.vocabSize = plan.shape.vocabSize;
    this.headCount = heads.count;
    this.maxTopM = heads.maxTopM;
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
      const heads = { count: options.heads?.count ?? 0, maxTopM: options.heads?.maxTopM ?? 0 };
      const model = new IoBoundModel(sessions, buffers, plan, contextLength, limits.prefill, heads, release);
      model.bindOnce();
      return model;
    } catch (error) {
      release();
      throw error;
    }
  }

  get cachedLength(): number {
    return this.length;
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
        await this.run({ ids: chunk, parents, depths, outputRows: [rows - 1] }, logits);
        this.length += rows;
        if (!last) continue;
        this.last = { row: 0, rows: 1 };
        return this.results(1, logits);
      }
    });
  }

  async verify(tree: CandidateTree, options: VerifyOptions): Promise<VerifiedRows> {
    checkTree(tree, this.length, this.contextLength);
    const { size, tokens, parents, depths } = tree;
    this.checkRoom(size);
    return this.turn.take(async () => {
      this.last = undefined;
      await this.run(
        { ids: tokens, parents, depths, outputRows: Array.from({ length: size }, (_, row) => row) },
        options.logits,
      );
      this.verified = size;
      return this.results(size, options.logits);
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

  async propose(topM: number): Promise<HeadProposals> {
    const { sessions, buffers, last, plan, headCount } = this;
    const session = sessions.heads;
    if (!session) throw new RuntimeFailure('This model was opened without heads.');
    if (!last) throw new RuntimeFailure('propose must follow prefill or keep.');
    checkTopM(topM, this.maxTopM);
    return this.turn.take(async () => {
      buffers.row.int64[0] = BigInt(last.row);
      buffers.topM.int64[0] = BigInt(topM);
      session.bindInput('hidden', buffers.hidden, floatType(plan), [last.rows, plan.shape.hiddenSize]);
      session.bindInput('row', buffers.row, ElementType.int64, [1]);
      session.bindInput('top_m', buffers.topM, ElementType.int64, [1]);
      session.bindOutput('top_ids', buffers.topIds, ElementType.int64, [headCount, topM]);
      session.bindOutput('top_probs', buffers.topProbabilities, ElementType.float32, [headCount, topM]);
      await session.run();
      return {
        heads: headCount,
        topM,
        ids: toInt32(buffers.topIds.int64, headCount * topM),
        probabilities: buffers.topProbabilities.float32.slice(0, headCount * topM),
      };
    });
  }

  async dispose(): Promise<void> {
    // A run on the worker thread still uses the memory.
    await this.turn.rest();
    this.release();
  }

  /** The bindings that never change: the cache, in and out, at the same addresses. */
  private bindOnce(): void {
    const { plan, buffers, sessions } = this;
    const { layers, kvHeads, headDim } = plan.shape;
    const type = floatType(plan);
    const block = [1, kvHeads, plan.capacity, headDim];
    for (let layer = 0; layer < layers; layer++) {
      for (const [part, name] of [
        [0, 'key'],
        [1, 'value'],
      ] as const) {
        const place = buffers.cacheAt(cacheOffset(plan, layer, part));
        sessions.backbone.bindInput(`cache_${name}.${layer}`, place, type, block);
        sessions.backbone.bindOutput(`cache_${name}_out.${layer}`, place, type, block);
      }
    }
    const whole = [cacheBlocks(plan.shape), plan.capacity, headDim];
    sessions.keep.bindInput('cache', buffers.cache, type, whole);
    sessions.keep.bindOutput('cache_out', buffers.cache, type, whole);
  }

  private async run(rows: RunRows, logits: boolean): Promise<void> {
    const { plan, buffers, length: past } = this;
    const { backbone } = this.sessions;
    const n = rows.ids.length;
    const r = rows.outputRows.length;
    const total = biasColumns(past, n, plan.capacity);
    const float = floatType(plan);
    writeInt64(buffers.ids.int64, rows.ids, n);
    writeInt64(buffers.positions.int64, rows.depths, n, past);
    const { values, closed } = buffers.biasValues();
    fillTreeBias(values, rows.parents, n, sharedLayout(past, total, closed));
    buffers.lastKey.int32[0] = past + n - 1;
    backbone.bindInput('input_ids', buffers.ids, ElementType.int64, [1, n]);
    backbone.bindInput('position_ids', buffers.positions, ElementType.int64, [1, n]);
    backbone.bindInput('attention_bias', buffers.bias, float, [1, 1, n, total]);
    backbone.bindInput('seqlens_k', buffers.lastKey, ElementType.int32, [1]);
    this.bindWhenNew('total_sequence_length', String(total), () => {
      buffers.total.int32[0] = total;
      backbone.bindInput('total_sequence_length', buffers.total, ElementType.int32, []);
    });
    this.bindWhenNew('output_rows', `${rows.outputRows[0]} ${r}`, () => {
      writeInt64(buffers.outputRows.int64, rows.outputRows, r);
      backbone.bindInput('output_rows', buffers.outputRows, ElementType.int64, [r]);
    });
    this.bindWhenNew('want_logits', String(logits), () => {
      buffers.wantLogits.bool[0] = logits ? 1 : 0;
      backbone.bindInput('want_logits', buffers.wantLogits, ElementType.bool, []);
    });
    backbone.bindOutput('next_tokens', buffers.nextTokens, ElementType.int64, [r]);
    backbone.bindOutput('hidden', buffers.hidden, float, [r, plan.shape.hiddenSize]);
    const wanted = logits ? r : 0;
    backbone.bindOutput('logits', buffers.logitsFor(wanted), ElementType.float32, [wanted, this.vocabSize]);
    await backbone.run();
  }

  /** Each binding copies to the device: those that rarely change are bound again only when they did. */
  private bindWhenNew(name: string, content: string, bind: () => void): void {
    if (this.contents.get(name) === content) return;
    bind();
    this.contents.set(name, content);
  }

  private async move(from: readonly number[], to: number): Promise<void> {
    const { buffers, plan } = this;
    const { keep } = this.sessions;
    const blocks = cacheBlocks(plan.shape);
    writeInt64(buffers.keepRows.int64, from, from.length);
    buffers.writeIndices.int64.fill(BigInt(to));
    keep.bindInput('rows', buffers.keepRows, ElementType.int64, [from.length]);
    keep.bindInput('write_indices', buffers.writeIndices, ElementType.int64, [blocks]);
    await keep.run();
  }

  private results(rows: number, logits: boolean): VerifiedRows {
    const { buffers, vocabSize } = this;
    const nextTokens = toInt32(buffers.nextTokens.int64, rows);
    if (!logits) return { rows, nextTokens, vocabSize };
    return {
      rows,
      nextTokens,
      vocabSize,
      logits: buffers.logitsFor(rows).float32.slice(0, rows * vocabSize),
    };
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

interface RunRows {
  readonly ids: Int32Array;
  readonly parents: Int32Array;
  readonly depths: Int32Array;
  /** Consecutive. */
  readonly outputRows: ArrayLike<number>;
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
  { backbone, keep, heads, shape }: OpenOptions,
  cleanup: (() => void)[],
): Promise<Sessions> {
  if (!keep)
    throw new ModelError(`${backbone.path} needs a keep graph, which this model lacks. Prepare it again.`);
  const open = async (path: string, expected: Parameters<typeof IoSession.open>[4]): Promise<IoSession> => {
    const session = await IoSession.open(api, environment, device, path, expected);
    cleanup.push(() => session.release());
    return session;
  };
  return {
    backbone: await open(backbone.path, backboneInterface('shared', shape)),
    keep: await open(keep.path, KEEP_INTERFACE),
    heads: heads && (await open(heads.path, HEADS_INTERFACE)),
  };
}

/** Most rows of a prompt chunk, of any run, and of a usual tree. */
export function rowLimits(
  { prefillRows, maxNodes }: OpenOptions,
  { capacity }: SharedPlan,
): { prefill: number; perRun: number; usual: number } {
  const prefill = Math.min(prefillRows ?? PREFILL_ROWS, capacity);
  const nodes = Math.min(maxNodes ?? DEFAULT_MAX_NODES, capacity);
  return { prefill, perRun: Math.max(prefill, nodes), usual: Math.min(nodes, USUAL_NODES) };
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

function floatType({ elementBytes }: SharedPlan): ElementType {
  return elementBytes === 2 ? ElementType.float16 : ElementType.float32;
}
