import { RuntimeFailure } from '../../util/errors.js';
import { closedFloat16Bits } from '../../decoding/tree/treeMask.js';
import { cacheBytes, type SharedPlan } from './bindingPlan.js';
import type { Device } from './device.js';
import { getOrMake } from './getOrMake.js';
import type { Place } from './ioSession.js';
import { ElementType, type Pointer } from './ortApi.js';

/** Closed columns of a float32 bias: the number that `closedFloat16Bits` spells, so that both act alike. */
const CLOSED_FLOAT32 = -10000;

/** The element type of cache, hidden states and bias. */
export function floatType({ elementBytes }: SharedPlan): ElementType {
  return elementBytes === 2 ? ElementType.float16 : ElementType.float32;
}

/** Host memory that graphs read and write by address and JavaScript as typed arrays. */
export class HostArray implements Place {
  readonly pointer: Pointer;
  readonly memoryInfo: Pointer;
  readonly memory: ArrayBuffer;
  readonly int32: Int32Array;
  readonly int64: BigInt64Array;
  readonly float32: Float32Array;

  constructor(device: Device, bytes: number) {
    const { pointer, memory } = device.allocateHost(Math.ceil(bytes / 8) * 8);
    this.pointer = pointer;
    this.memory = memory;
    this.memoryInfo = device.hostMemoryInfo;
    this.int32 = new Int32Array(memory);
    this.int64 = new BigInt64Array(memory);
    this.float32 = new Float32Array(memory);
  }
}

/** A bias of `elements` values at a byte offset of host memory, and the value that closes a column there. */
export function biasValues(
  { elementBytes }: SharedPlan,
  memory: ArrayBuffer,
  offset: number,
  elements: number,
): { values: Float32Array | Uint16Array; closed: number } {
  return elementBytes === 2
    ? { values: new Uint16Array(memory, offset, elements), closed: closedFloat16Bits }
    : { values: new Float32Array(memory, offset, elements), closed: CLOSED_FLOAT32 };
}

/** Memory for rows of logits, [rows, V] float32, made when first asked for. */
export class LogitsArea<Area> {
  private readonly areas = new Map<number, Area>();

  constructor(
    private readonly vocabSize: number,
    /** Most rows ever asked for. */
    private readonly maxRows: number,
    private readonly allocate: (bytes: number) => Area,
  ) {}

  /** An area with room for `rows` rows; the same one for the same number. */
  for(rows: number): Area {
    // Few sizes, so that few areas are made: a first one for the usual trees, then powers of two.
    const size = Math.min(Math.max(USUAL_ROWS, 2 ** Math.ceil(Math.log2(rows))), this.maxRows);
    return getOrMake(this.areas, size, () => this.allocate(size * this.vocabSize * 4));
  }
}

const USUAL_ROWS = 64;

/** Fetches rows of logits that stay on the device, one at a time. */
export class LogitsReader {
  private row?: HostArray;
  private runs = 0;

  constructor(
    private readonly device: Device,
    private readonly vocabSize: number,
  ) {}

  /** Reads what the last run wrote to `area`, [rows, V], until the next `forget`. */
  of(area: Place): (row: number) => Float32Array {
    const { runs } = this;
    const bytes = this.vocabSize * 4;
    return (row) => {
      if (runs !== this.runs) {
        throw new RuntimeFailure('These logits are gone: the model ran again since. Read them before.');
      }
      this.row ??= new HostArray(this.device, bytes);
      this.device.copyToHost(this.row.pointer, area.pointer + BigInt(row * bytes), bytes);
      return this.row.float32.subarray(0, this.vocabSize);
    };
  }

  /** A run overwrites what there was to read. */
  forget(): void {
    this.runs++;
  }
}

/** Device memory by its size. */
export function deviceMemory(device: Device): (bytes: number) => Place {
  return (bytes) => ({ pointer: device.allocate(bytes), memoryInfo: device.memoryInfo });
}

/** Host memory and as much of the device's: what lies in it crosses in one copy, to and from addresses that never change. */
export class Mirror {
  readonly host: HostArray;
  private readonly onDevice: Place;

  constructor(
    private readonly device: Device,
    bytes: number,
  ) {
    this.host = new HostArray(device, bytes);
    this.onDevice = deviceMemory(device)(bytes);
  }

  /** Where a tensor at a byte offset lies on the device. */
  at(offset: number): Place {
    return { pointer: this.onDevice.pointer + BigInt(offset), memoryInfo: this.onDevice.memoryInfo };
  }

  /** Copies the first bytes to the device; done on return. */
  send(bytes: number): void {
    this.device.copyToDevice(this.onDevice.pointer, this.host.pointer, bytes);
  }

  /** Copies the first bytes from the device; done on return. */
  fetch(bytes: number): void {
    this.device.copyToHost(this.host.pointer, this.onDevice.pointer, bytes);
  }
}

/** The memory on the device that the sessions of an `SharedModel` share, allocated once. */
export class Buffers {
  /** [2 L G, capacity, D] */
  readonly cache: Place;
  /** [maxRows, H] */
  readonly hidden: Place;

  constructor(
    device: Device,
    plan: SharedPlan,
    /** Most rows of one run. */
    readonly maxRows: number,
  ) {
    const onDevice = deviceMemory(device);
    this.cache = onDevice(cacheBytes(plan));
    this.hidden = onDevice(maxRows * plan.shape.hiddenSize * plan.elementBytes);
  }

  /** A layer's keys or values within the cache. */
  cacheAt(offset: number): Place {
    return { pointer: this.cache.pointer + BigInt(offset), memoryInfo: this.cache.memoryInfo };
  }
}
