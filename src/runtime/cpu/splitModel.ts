import { RuntimeFailure } from '../../util/errors.js';
import { areFinite, NotFiniteError } from '../../decoding/notFinite.js';
import type { CandidateTree, HeadProposals, VerifiedRows, VerifyOptions } from '../../decoding/types.js';
import { chainTree } from '../../decoding/tree/candidateTree.js';
import { fillTreeBias, splitLayout, writeInt64 } from '../../decoding/tree/treeMask.js';
import {
  checkPrompt,
  checkRoot,
  checkRows,
  checkTopM,
  checkTree,
  checkTruncation,
  Turn,
} from '../modelChecks.js';
import { backboneInterface, headsInterface } from '../graphInterface.js';
import { toInt32 } from '../int64.js';
import type { OpenModel, OpenOptions } from '../spec.js';
import { leastRowsOfBlocks } from './kernels.js';
import { Tensor } from './ort.js';
import { CpuSession, type Feeds } from './session.js';
import { SplitCache } from './splitCache.js';

/**
 * Prompt rows of one run: 64 take 8-15% longer (with AVX2 1-15%), 256 take 4% longer, and an abort waits for one run.
 */
const PREFILL_ROWS = 128;
/** Most threads for the heads: they read some twenty megabytes for one row, which two threads do 30% faster than one. */
const HEAD_THREADS = 2;
/** Row buffers of runs up to this size are kept for the next run of the same size. */
const REMEMBERED_ROWS = 128;

const YES = new Tensor('bool', [true], []);
const NO = new Tensor('bool', [false], []);

/**
 * The CPU model: onnxruntime-node on graphs of the split layout. The past is read in place, a run returns the keys
 * and values of its own rows, and keeping rows is a copy of those into the cache.
 */
export class SplitModel implements OpenModel {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly headCount: number;
  readonly maxTopM: number;
  private readonly headsOutputs: readonly string[];
  private readonly readsToken: boolean;
  readonly promptRows: number;
  private readonly turn = new Turn();
  private disposed = false;
  private readonly feeds: Feeds = {};
  private readonly cache: SplitCache;
  private readonly rowInputs = new Map<number, RowInputs>();
  /** [rows, C + rows] of the present run; grown when a run needs more. */
  private bias = new Float32Array(0);
  /** What the last verification left for `keep`: `runRows` of `newKv`, of which the tree's are the first `rows`. */
  private verified?: {
    readonly rows: number;
    readonly runRows: number;
    readonly newKv: Float32Array;
    readonly hidden: Tensor;
  };
  /** The hidden states and the row in them that `propose` reads. */
  private last?: { readonly hidden: Tensor; readonly row: number };

  private constructor(
    private sessions: Sessions,
    /** Fewest rows of a run, padded where a tree or a piece of the prompt has less. */
    private readonly leastRows: number,
    private readonly options: OpenOptions,
  ) {
    const { shape, heads: headsFile, contextLength, prefillRows } = options;
    this.vocabSize = shape.vocabSize;
    this.contextLength = Math.min(contextLength ?? shape.contextLength, shape.contextLength);
    this.headCount = headsFile?.count ?? 0;
    this.maxTopM = headsFile?.maxTopM ?? 0;
    this.headsOutputs = headsFile ? headsInterface(headsFile).outputs : [];
    this.readsToken = headsFile?.readsToken ?? false;
    this.promptRows = prefillRows ?? PREFILL_ROWS;
    this.cache = new SplitCache(shape, this.feeds);
  }

  /** @throws ModelError when a graph is missing, damaged or of another kind */
  static async open(options: OpenOptions): Promise<SplitModel> {
    const leastRows = options.leastRows ?? (await leastRowsOf(options.backbone.precision));
    return new SplitModel(await openSessions(options), leastRows, options);
  }

  async useThreads(threads: number): Promise<void> {
    await this.turn.take(async () => {
      const before = this.sessions;
      this.sessions = await openSessions({ ...this.options, threads });
      // What a session gave should not outlive it.
      if (this.last) this.last = { ...this.last, hidden: copyOf(this.last.hidden) };
      this.verified = undefined;
      await release(before);
    });
  }

  get cachedLength(): number {
    return this.cache.length;
  }

  truncate(length: number): void {
    checkTruncation(length, this.cache.length);
    this.cache.truncate(length);
    this.verified = undefined;
    this.last = undefined;
  }

  async prefill(ids: ArrayLike<number>, options: VerifyOptions): Promise<VerifiedRows> {
    const rows = ids.length;
    checkPrompt(rows, this.promptRows, this.cache.length, this.contextLength);
    const run = padRows(chainTree(ids), this.leastRows);
    return this.turn.take(async () => {
      // The LM head too is given at least that many rows.
      const wanted = int64(new Int32Array(this.leastRows).fill(rows - 1));
      const outputs = await this.run(run, wanted, options.logits);
      this.cache.append(floats(outputs.new_kv), run.size, [...Array(rows).keys()]);
      this.verified = undefined;
      this.last = { hidden: outputs.hidden, row: 0 };
      this.checkHidden(outputs.hidden, 0);
      return this.results(outputs, 1, options);
    });
  }

  async verify(tree: CandidateTree, options: VerifyOptions): Promise<VerifiedRows> {
    checkTree(tree, this.cache.length, this.contextLength);
    return this.turn.take(async () => {
      const run = padRows(tree, this.leastRows);
      const outputs = await this.run(run, this.inputsFor(run.size).allRows, options.logits);
      const newKv = floats(outputs.new_kv);
      this.verified = { rows: tree.size, runRows: run.size, newKv, hidden: outputs.hidden };
      this.last = undefined;
      return this.results(outputs, tree.size, options);
    });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the seam is asynchronous, this copy is not
  async keep(rows: readonly number[]): Promise<void> {
    if (!this.verified) throw new RuntimeFailure('keep must follow verify.');
    const { rows: verified, runRows, newKv, hidden } = this.verified;
    checkRows(rows, verified);
    for (const row of rows) this.checkHidden(hidden, row);
    this.cache.append(newKv, runRows, rows);
    this.last = { hidden, row: rows[rows.length - 1] };
    this.verified = undefined;
  }

  async propose(topM: number, root: number): Promise<HeadProposals> {
    const { last } = this;
    const { heads } = this.sessions;
    if (!heads) throw new RuntimeFailure('This model was opened without heads.');
    if (!last) throw new RuntimeFailure('propose must follow prefill or keep.');
    checkTopM(topM, this.maxTopM);
    checkRoot(root, this.vocabSize);
    return this.turn.take(async () => {
      const outputs = await heads.run(
        {
          hidden: last.hidden,
          row: int64Scalar(last.row),
          top_m: int64Scalar(topM),
          ...(this.readsToken && { token: int64Scalar(root) }),
        },
        this.headsOutputs,
      );
      return {
        heads: this.headCount,
        topM,
        ids: toInt32(outputs.top_ids.data as BigInt64Array),
        probabilities: floats(outputs.top_probs),
        ...(outputs.context && { hiddenTerms: floats(outputs.context) }),
      };
    });
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.turn.rest();
    await release(this.sessions);
  }

  /** The hidden state of a row that is kept: the logits are computed from it, and are seldom looked at. */
  private checkHidden(hidden: Tensor, row: number): void {
    const values = floats(hidden);
    const size = values.length / hidden.dims[0];
    if (areFinite(values, row * size, (row + 1) * size)) return;
    throw new NotFiniteError(
      'backbone',
      `${this.sessions.backbone.path} gave hidden states that are not finite numbers.`,
    );
  }

  /** @param outputRows the rows whose results are wanted */
  private run(
    { size, tokens, parents, depths }: Rows,
    outputRows: Tensor,
    logits: VerifyOptions['logits'],
  ): ReturnType<CpuSession['run']> {
    const { feeds, cache } = this;
    const inputs = this.inputsFor(size);
    writeInt64(inputs.ids, tokens, size);
    writeInt64(inputs.positions, depths, size, cache.length);
    const bias = this.biasFor(size);
    fillTreeBias(bias, parents, size, splitLayout(cache.length, cache.capacity, size));
    feeds.input_ids = inputs.idsTensor;
    feeds.position_ids = inputs.positionsTensor;
    feeds.attention_bias = new Tensor('float32', bias, [size, cache.capacity + size]);
    feeds.output_rows = outputRows;
    feeds.want_logits = logits ? YES : NO;
    return this.sessions.backbone.run(feeds, logits ? WITH_LOGITS : WITHOUT_LOGITS);
  }

  /** Results of the first `rows` rows of a run. */
  private results(
    outputs: Awaited<ReturnType<CpuSession['run']>>,
    rows: number,
    { logits }: VerifyOptions,
  ): VerifiedRows {
    const nextTokens = toInt32(outputs.next_tokens.data as BigInt64Array).subarray(0, rows);
    return {
      rows,
      nextTokens,
      vocabSize: this.vocabSize,
      ...(logits && { logits: floats(outputs.logits).subarray(0, rows * this.vocabSize) }),
    };
  }

  private biasFor(rows: number): Float32Array {
    const size = rows * (this.cache.capacity + rows);
    if (this.bias.length < size) this.bias = new Float32Array(Math.max(size, 2 * this.bias.length));
    return this.bias.subarray(0, size);
  }

  private inputsFor(rows: number): RowInputs {
    let inputs = this.rowInputs.get(rows);
    if (!inputs) {
      inputs = new RowInputs(rows);
      if (rows <= REMEMBERED_ROWS || rows === this.promptRows) this.rowInputs.set(rows, inputs);
    }
    return inputs;
  }
}

interface Sessions {
  readonly backbone: CpuSession;
  readonly heads: CpuSession | undefined;
}

async function openSessions({
  backbone: file,
  heads: headsFile,
  shape,
  threads,
}: OpenOptions): Promise<Sessions> {
  const backbone = await CpuSession.open(file.path, threads, backboneInterface('split', shape));
  try {
    const headThreads = Math.min(threads || HEAD_THREADS, HEAD_THREADS);
    const heads =
      headsFile && (await CpuSession.open(headsFile.path, headThreads, headsInterface(headsFile)));
    return { backbone, heads };
  } catch (error) {
    await backbone.release();
    throw error;
  }
}

async function release({ backbone, heads }: Sessions): Promise<void> {
  await heads?.release();
  await backbone.release();
}

function copyOf(tensor: Tensor): Tensor {
  return new Tensor('float32', floats(tensor).slice(), tensor.dims);
}

const WITH_LOGITS = ['next_tokens', 'logits', 'hidden', 'new_kv'];
const WITHOUT_LOGITS = ['next_tokens', 'hidden', 'new_kv'];

/** Bits of a weight in the precisions whose products are block-quantised. */
const blockBits: Record<string, 4 | 8 | undefined> = { int4: 4, 'int8-block': 8 };

async function leastRowsOf(precision: string): Promise<number> {
  const bits = blockBits[precision];
  return (bits && (await leastRowsOfBlocks(bits))) ?? 1;
}

/** The rows of a run: a tree's nodes, or a piece of the prompt as a chain. */
type Rows = Pick<CandidateTree, 'size' | 'tokens' | 'parents' | 'depths'>;

/** At least `least` rows: copies of the root, at its position, are added after the others, which do not see them. */
function padRows(rows: Rows, least: number): Rows {
  const { size, tokens, parents, depths } = rows;
  if (size >= least) return rows;
  const padding = new Int32Array(least - size);
  const grown = (values: Int32Array, value: number): Int32Array =>
    Int32Array.from([...values.subarray(0, size), ...padding.fill(value)]);
  return {
    size: least,
    tokens: grown(tokens, tokens[0]),
    parents: grown(parents, 0),
    depths: grown(depths, 0),
  };
}

/** The inputs of a run of a given size that need no new buffers: [rows] int64 each. */
class RowInputs {
  readonly ids: BigInt64Array;
  readonly positions: BigInt64Array;
  readonly idsTensor: Tensor;
  readonly positionsTensor: Tensor;
  readonly allRows: Tensor;

  constructor(readonly rows: number) {
    this.ids = new BigInt64Array(rows);
    this.positions = new BigInt64Array(rows);
    this.idsTensor = new Tensor('int64', this.ids, [rows]);
    this.positionsTensor = new Tensor('int64', this.positions, [rows]);
    this.allRows = int64(Int32Array.from({ length: rows }, (_, row) => row));
  }
}

function int64(values: Int32Array): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
}

/** A tensor of shape [1]. */
function int64Scalar(value: number): Tensor {
  return int64(Int32Array.of(value));
}

function floats(value: unknown): Float32Array {
  return (value as Tensor).data as Float32Array;
}
