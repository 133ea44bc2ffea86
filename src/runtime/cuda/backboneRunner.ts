import { fillTreeBias, sharedLayout, writeInt64 } from '../../decoding/tree/treeMask.js';
import type { VerifyOptions } from '../../decoding/types.js';
import { toInt32 } from '../int64.js';
import {
  biasColumns,
  cacheOffset,
  packInputs,
  type PackedInputs,
  rowBucket,
  type RunShape,
  type SharedPlan,
} from './bindingPlan.js';
import {
  biasValues,
  type Buffers,
  deviceMemory,
  floatType,
  HostArray,
  LogitsArea,
  LogitsReader,
  Mirror,
} from './buffers.js';
import type { Device } from './device.js';
import { getOrMake } from './getOrMake.js';
import { GraphOptions, type IoBinding, type IoSession, type Place } from './ioSession.js';
import { ElementType, type OrtApi, type Pointer } from './ortApi.js';

/** The rows of one run of the backbone: a chunk of a prompt, or a tree. */
export interface RunRows {
  /** [n] */
  readonly ids: Int32Array;
  /** [n] row of each row's parent, -1 for the root. */
  readonly parents: Int32Array;
  /** [n] */
  readonly depths: Int32Array;
  /** [r] consecutive rows whose result is wanted. */
  readonly outputRows: ArrayLike<number>;
}

export interface RunResults {
  /** [r] */
  readonly nextTokens: Int32Array;
  /** [r, V], when all were asked for. */
  readonly logits?: Float32Array;
  /** See `VerifiedRows`. */
  readonly logitsOf?: (row: number) => Float32Array;
}

/** A pause costs 10 us, which every step of a small model would feel. */
const PAUSE_AFTER_MS = 4;

/** Runs of one shape: everything bound once, at addresses that never change. */
interface Bucket extends RunShape {
  readonly binding: IoBinding;
  readonly layout: PackedInputs;
  /** OrtRunOptions with the graph to replay; null where graphs are not in use. */
  readonly runOptions: Pointer | null;
}

/**
 * Runs the backbone; hidden states stay on the device, in `Buffers.hidden`.
 *
 * The rows of a run are padded to one of a few sizes. For each shape (rows, results, columns of the bias) inputs and
 * outputs are bound once to device memory; a run then is one copy there, the run itself, and one copy back. That is
 * also what a captured CUDA graph needs: it replays on the addresses it was captured with. Padding rows hang below the
 * root; the keys they write lie behind the rows of the run and are never seen.
 */
export class BackboneRunner {
  private readonly buckets = new Map<string, Bucket>();
  /** Inputs of a run. */
  private readonly inputs: Mirror;
  /** total_sequence_length, which GroupQueryAttention reads on the host. */
  private readonly total: HostArray;
  /** [maxRows] */
  private readonly tokens: Mirror;
  private readonly logits: LogitsArea<Place>;
  private readonly logitsHere: LogitsArea<HostArray>;
  private readonly reader: LogitsReader;
  private readonly graphs: GraphOptions;
  private lastPause = 0;

  constructor(
    api: OrtApi,
    private readonly device: Device,
    private readonly backbone: IoSession,
    private readonly plan: SharedPlan,
    private readonly buffers: Buffers,
    graphs: boolean,
  ) {
    const { maxRows } = buffers;
    const largest = { rows: maxRows, outputs: maxRows, columns: plan.capacity };
    this.inputs = new Mirror(device, packInputs(largest, plan.elementBytes).bytes);
    this.total = new HostArray(device, 4);
    this.tokens = new Mirror(device, maxRows * 8);
    this.graphs = new GraphOptions(api, graphs);
    const { vocabSize } = plan.shape;
    this.logits = new LogitsArea(vocabSize, maxRows, deviceMemory(device));
    this.reader = new LogitsReader(device, vocabSize);
    this.logitsHere = new LogitsArea(vocabSize, maxRows, (size) => new HostArray(device, size));
  }

  /** Runs `rows` behind `past` cached positions; the cache has room for them. */
  async run(rows: RunRows, past: number, logits: VerifyOptions['logits']): Promise<RunResults> {
    const { device, plan } = this;
    const r = rows.outputRows.length;
    const bucket = this.bucketFor(rows, past);
    this.reader.forget();
    this.fill(bucket, rows, past);
    this.inputs.send(bucket.layout.bytes);
    bucket.binding.run(bucket.runOptions);
    this.tokens.fetch(r * 8);
    const nextTokens = toInt32(this.tokens.host.int64, r);
    await this.pause();
    if (!logits) return { nextTokens };
    const place = this.logits.for(bucket.outputs);
    if (logits === 'by row') return { nextTokens, logitsOf: this.reader.of(place) };
    const here = this.logitsHere.for(r);
    const count = r * plan.shape.vocabSize;
    device.copyToHost(here.pointer, place.pointer, count * 4);
    return { nextTokens, logits: here.float32.slice(0, count) };
  }

  /** Runs hold this thread: now and then output and signals are let through. */
  private async pause(): Promise<void> {
    if (performance.now() - this.lastPause < PAUSE_AFTER_MS) return;
    await new Promise(setImmediate);
    this.lastPause = performance.now();
  }

  /** Frees what the runner made itself; sessions and device memory have owners of their own. */
  release(): void {
    this.graphs.release();
  }

  private bucketFor({ ids, outputRows }: RunRows, past: number): Bucket {
    const { plan } = this;
    // Near the end of the cache there may be no room for padding.
    const rows = Math.min(rowBucket(ids.length), plan.capacity - past);
    const isTree = outputRows.length === ids.length;
    const outputs = isTree ? rows : outputRows.length;
    const shape: RunShape = { rows, outputs, columns: biasColumns(plan, past, rows) };
    const key = `${rows} ${outputs} ${shape.columns}`;
    // Prompts come in many shapes and seldom: no graphs of them.
    return getOrMake(this.buckets, key, () => this.makeBucket(shape, this.graphs.for(key, isTree)));
  }

  private makeBucket(shape: RunShape, runOptions: Pointer | null): Bucket {
    const { plan, buffers, inputs } = this;
    const { rows, outputs, columns } = shape;
    const layout = packInputs(shape, plan.elementBytes);
    const binding = this.backbone.newBinding();
    const float = floatType(plan);
    bindCache(binding, plan, buffers);
    binding.bindInput('input_ids', inputs.at(layout.ids), ElementType.int64, [1, rows]);
    binding.bindInput('position_ids', inputs.at(layout.positions), ElementType.int64, [1, rows]);
    binding.bindInput('attention_bias', inputs.at(layout.bias), float, [1, 1, rows, columns]);
    binding.bindInput('output_rows', inputs.at(layout.outputRows), ElementType.int64, [outputs]);
    binding.bindInput('seqlens_k', inputs.at(layout.lastKey), ElementType.int32, [1]);
    binding.bindInput('total_sequence_length', this.total, ElementType.int32, []);
    binding.bindOutput('next_tokens', this.tokens.at(0), ElementType.int64, [outputs]);
    binding.bindOutput('hidden', buffers.hidden, float, [outputs, plan.shape.hiddenSize]);
    binding.bindOutput('logits', this.logits.for(outputs), ElementType.float32, [
      outputs,
      plan.shape.vocabSize,
    ]);
    return { ...shape, binding, layout, runOptions };
  }

  /** Writes the inputs of a run, padded, into the staging memory. */
  private fill({ rows, outputs, columns, layout }: Bucket, run: RunRows, past: number): void {
    const { plan } = this;
    const { memory, int32 } = this.inputs.host;
    const int64 = (offset: number, count: number): BigInt64Array => new BigInt64Array(memory, offset, count);
    const { values, closed } = biasValues(plan, memory, layout.bias, rows * columns);
    fillTreeBias(values, padded(run.parents, rows), rows, sharedLayout(past, columns, closed));
    writeInt64(int64(layout.ids, rows), padded(run.ids, rows), rows);
    writeInt64(int64(layout.positions, rows), padded(run.depths, rows), rows, past);
    const wanted = outputs === rows ? Int32Array.from({ length: rows }, (_, row) => row) : run.outputRows;
    writeInt64(int64(layout.outputRows, outputs), wanted, outputs);
    int32[layout.lastKey / 4] = past + rows - 1;
    this.total.int32[0] = columns;
  }
}

/** `values` with zeros behind them: token 0, depth 0, hanging below row 0. */
function padded(values: Int32Array, length: number): Int32Array {
  if (values.length === length) return values;
  const longer = new Int32Array(length);
  longer.set(values);
  return longer;
}

/** Binds the cache, in and out, at the same addresses: GroupQueryAttention then writes in place. */
function bindCache(binding: IoBinding, plan: SharedPlan, buffers: Buffers): void {
  const { layers, kvHeads, headDim } = plan.shape;
  const block = [1, kvHeads, plan.capacity, headDim];
  for (let layer = 0; layer < layers; layer++) {
    for (const [part, name] of [
      [0, 'key'],
      [1, 'value'],
    ] as const) {
      const place: Place = buffers.cacheAt(cacheOffset(plan, layer, part));
      binding.bindInput(`cache_${name}.${layer}`, place, floatType(plan), block);
      binding.bindOutput(`cache_${name}_out.${layer}`, place, floatType(plan), block);
    }
  }
}
