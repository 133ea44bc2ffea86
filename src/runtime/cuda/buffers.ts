import { closedFloat16Bits } from '../../decoding/treeMask.js';
import type { HeadsFile } from '../spec.js';
import { cacheBlocks, cacheBytes, type SharedPlan } from './bindingPlan.js';
import type { Device } from './device.js';
import type { Place } from './ioSession.js';
import type { Pointer } from './ortApi.js';

/** Closed columns of a float32 bias: the number that `closedFloat16Bits` spells, so that both act alike. */
const CLOSED_FLOAT32 = -10000;

/** Host memory that graphs read and write by address and JavaScript as typed arrays. */
export class HostArray implements Place {
  readonly pointer: Pointer;
  readonly memoryInfo: Pointer;
  readonly bool: Uint8Array;
  readonly int32: Int32Array;
  readonly int64: BigInt64Array;
  readonly float32: Float32Array;
  readonly float16: Uint16Array;

  constructor(device: Device, bytes: number) {
    const { pointer, memory } = device.allocateHost(Math.ceil(bytes / 8) * 8);
    this.pointer = pointer;
    this.memoryInfo = device.hostMemoryInfo;
    this.bool = new Uint8Array(memory);
    this.int32 = new Int32Array(memory);
    this.int64 = new BigInt64Array(memory);
    this.float32 = new Float32Array(memory);
    this.float16 = new Uint16Array(memory);
  }
}

/** All memory of an `IoBoundModel`, allocated once. The cache and the hidden states lie on the device. */
export class Buffers {
  /** [2 L G, capacity, D] on the device. */
  readonly cache: Place;
  /** [maxRows, H] on the device. */
  readonly hidden: Place;
  /** [maxRows] each. */
  readonly ids: HostArray;
  readonly positions: HostArray;
  readonly outputRows: HostArray;
  readonly nextTokens: HostArray;
  readonly keepRows: HostArray;
  /** [maxRows, capacity] */
  readonly bias: HostArray;
  /** Scalars. */
  readonly lastKey: HostArray;
  readonly total: HostArray;
  readonly wantLogits: HostArray;
  readonly row: HostArray;
  readonly topM: HostArray;
  /** [2 L G] */
  readonly writeIndices: HostArray;
  /** [heads, maxTopM] */
  readonly topIds: HostArray;
  readonly topProbabilities: HostArray;
  /** [rows, V], made when logits are first asked for. */
  private logits: HostArray;
  private logitRows = 0;

  constructor(
    private readonly device: Device,
    private readonly plan: SharedPlan,
    /** Most rows of one run. */
    readonly maxRows: number,
    heads: Pick<HeadsFile, 'count' | 'maxTopM'> | undefined,
  ) {
    const { shape, capacity, elementBytes } = plan;
    const onDevice = (bytes: number): Place => ({
      pointer: device.allocate(bytes),
      memoryInfo: device.memoryInfo,
    });
    const onHost = (elements: number, bytes: number): HostArray => new HostArray(device, elements * bytes);
    this.cache = onDevice(cacheBytes(plan));
    this.hidden = onDevice(maxRows * shape.hiddenSize * elementBytes);
    this.ids = onHost(maxRows, 8);
    this.positions = onHost(maxRows, 8);
    this.outputRows = onHost(maxRows, 8);
    this.nextTokens = onHost(maxRows, 8);
    this.keepRows = onHost(maxRows, 8);
    this.bias = onHost(maxRows * capacity, elementBytes);
    this.lastKey = onHost(1, 4);
    this.total = onHost(1, 4);
    this.wantLogits = onHost(1, 1);
    this.row = onHost(1, 8);
    this.topM = onHost(1, 8);
    this.writeIndices = onHost(cacheBlocks(shape), 8);
    const candidates = Math.max(1, (heads?.count ?? 0) * (heads?.maxTopM ?? 0));
    this.topIds = onHost(candidates, 8);
    this.topProbabilities = onHost(candidates, 4);
    this.logits = onHost(1, 4);
  }

  /** A layer's keys or values within the cache. */
  cacheAt(offset: number): Place {
    return { pointer: this.cache.pointer + BigInt(offset), memoryInfo: this.cache.memoryInfo };
  }

  /** The bias in the device's element type, and the value that closes a column. */
  biasValues(): { values: Float32Array | Uint16Array; closed: number } {
    return this.plan.elementBytes === 2
      ? { values: this.bias.float16, closed: closedFloat16Bits }
      : { values: this.bias.float32, closed: CLOSED_FLOAT32 };
  }

  /** Room for the logits of `rows` rows. */
  logitsFor(rows: number): HostArray {
    if (rows > this.logitRows) {
      this.logitRows = Math.min(2 * rows, this.maxRows);
      this.logits = new HostArray(this.device, this.logitRows * this.plan.shape.vocabSize * 4);
    }
    return this.logits;
  }
}
