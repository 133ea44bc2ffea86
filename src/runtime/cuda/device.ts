import { RuntimeFailure } from '../../util/errors.js';
import { messageOf } from '../messages.js';
import { type CudaRuntime, FIRST_DEVICE } from './cudaRuntime.js';
import type { OrtApi, Pointer } from './ortApi.js';

/** Memory of the program that the device reads and writes through ONNX Runtime. */
export interface HostBuffer {
  readonly pointer: Pointer;
  readonly memory: ArrayBuffer;
}

/**
 * Where the sessions of an `SharedModel` run and its cache lives. The CPU device exists for the tests: the same
 * code, with main memory in place of the card's.
 */
export interface Device {
  readonly kind: 'cpu' | 'cuda';
  /** OrtMemoryInfo of `allocate`. */
  readonly memoryInfo: Pointer;
  /** OrtMemoryInfo of `allocateHost`. */
  readonly hostMemoryInfo: Pointer;
  /**
   * New session options for this device; the caller releases them.
   *
   * @param graphs whether runs may be captured as CUDA graphs; nothing to the CPU
   */
  sessionOptions(graphs?: boolean): Pointer;
  /** Zeroed memory of the device; freed by `dispose`. */
  allocate(bytes: number): Pointer;
  /** Memory that JavaScript can write; freed by `dispose`. */
  allocateHost(bytes: number): HostBuffer;
  /** Copies from memory of `allocateHost` to memory of `allocate`; done on return. */
  copyToDevice(target: Pointer, source: Pointer, bytes: number): void;
  /** The reverse. */
  copyToHost(target: Pointer, source: Pointer, bytes: number): void;
  /** Bytes free on the device; undefined when unknown. */
  freeMemory(): number | undefined;
  dispose(): void;
}

/** ORT's numbers: OrtDeviceAllocator, OrtMemTypeDefault, ORT_ENABLE_ALL, ORT_LOGGING_LEVEL_ERROR. */
const DEVICE_ALLOCATOR = 0;
const MEMORY_DEFAULT = 0;
const OPTIMIZE_ALL = 99;
export const LOG_ERRORS = 3;
/** Cache lines: kernels read aligned memory faster. */
const ALIGNMENT = 64;

function newSessionOptions(api: OrtApi, threads: number): Pointer {
  const options = api.create('CreateSessionOptions');
  api.call('SetSessionGraphOptimizationLevel', options, OPTIMIZE_ALL);
  api.call('SetIntraOpNumThreads', options, threads);
  api.call('SetSessionLogSeverityLevel', options, LOG_ERRORS);
  return options;
}

export class CpuDevice implements Device {
  readonly kind = 'cpu';
  readonly memoryInfo: Pointer;
  readonly hostMemoryInfo: Pointer;
  /** Keeps the memory alive that ONNX Runtime knows by address only. */
  private memories: ArrayBuffer[] = [];

  constructor(
    private readonly api: OrtApi,
    private readonly threads: number,
  ) {
    this.memoryInfo = api.create('CreateCpuMemoryInfo', DEVICE_ALLOCATOR, MEMORY_DEFAULT);
    this.hostMemoryInfo = this.memoryInfo;
  }

  sessionOptions(): Pointer {
    return newSessionOptions(this.api, this.threads);
  }

  allocate(bytes: number): Pointer {
    return this.allocateHost(bytes).pointer;
  }

  allocateHost(bytes: number): HostBuffer {
    const memory = new ArrayBuffer(bytes + ALIGNMENT);
    this.memories.push(memory);
    const address = this.api.addressOf(memory);
    const aligned = ((address + BigInt(ALIGNMENT - 1)) / BigInt(ALIGNMENT)) * BigInt(ALIGNMENT);
    return { pointer: aligned, memory: this.api.view(aligned, bytes) };
  }

  copyToDevice(target: Pointer, source: Pointer, bytes: number): void {
    new Uint8Array(this.api.view(target, bytes)).set(new Uint8Array(this.api.view(source, bytes)));
  }

  copyToHost(target: Pointer, source: Pointer, bytes: number): void {
    this.copyToDevice(target, source, bytes);
  }

  freeMemory(): undefined {
    return undefined;
  }

  dispose(): void {
    this.api.release('ReleaseMemoryInfo', this.memoryInfo);
    this.memories = [];
  }
}

/** The CUDA execution provider of the given library, with plain device memory and pinned host memory. */
export class CudaDevice implements Device {
  readonly kind = 'cuda';
  readonly memoryInfo: Pointer;
  readonly hostMemoryInfo: Pointer;
  private readonly freeing: (() => void)[] = [];

  constructor(
    private readonly api: OrtApi,
    private readonly cuda: CudaRuntime,
  ) {
    cuda.useDevice();
    this.memoryInfo = api.create('CreateMemoryInfo', 'Cuda', DEVICE_ALLOCATOR, FIRST_DEVICE, MEMORY_DEFAULT);
    // Pinned, but presented as plain memory of the CPU: it is ours, not of ONNX Runtime's pinned allocator.
    this.hostMemoryInfo = api.create('CreateCpuMemoryInfo', DEVICE_ALLOCATOR, MEMORY_DEFAULT);
  }

  sessionOptions(graphs = false): Pointer {
    const { api } = this;
    const options = newSessionOptions(api, 1);
    const cuda = api.create('CreateCudaOptions');
    try {
      // A node without a CUDA kernel would run on the CPU, and the cache would cross over with it, in silence.
      api.call('AddSessionConfigEntry', options, 'session.disable_cpu_ep_fallback', '1');
      const entries = {
        device_id: String(FIRST_DEVICE),
        // The default doubles its memory at each growth.
        arena_extend_strategy: 'kSameAsRequested',
        enable_cuda_graph: graphs ? '1' : '0',
      };
      api.call(
        'UpdateCudaOptions',
        cuda,
        Object.keys(entries),
        Object.values(entries),
        Object.keys(entries).length,
      );
      api.call('AppendCuda', options, cuda);
    } catch (cause) {
      api.release('ReleaseSessionOptions', options);
      throw new RuntimeFailure(cudaRefused(api.libraryPath, messageOf(cause)), undefined, { cause });
    } finally {
      api.release('ReleaseCudaOptions', cuda);
    }
    return options;
  }

  allocate(bytes: number): Pointer {
    const pointer = this.cuda.allocate(bytes);
    this.freeing.push(() => this.cuda.free(pointer));
    return pointer;
  }

  allocateHost(bytes: number): HostBuffer {
    const pointer = this.cuda.allocatePinned(bytes);
    this.freeing.push(() => this.cuda.freePinned(pointer));
    return { pointer, memory: this.api.view(pointer, bytes) };
  }

  copyToDevice(target: Pointer, source: Pointer, bytes: number): void {
    this.cuda.copy(target, source, bytes, 'to device');
  }

  copyToHost(target: Pointer, source: Pointer, bytes: number): void {
    this.cuda.copy(target, source, bytes, 'to host');
  }

  freeMemory(): number {
    return this.cuda.memory().free;
  }

  dispose(): void {
    for (const free of this.freeing.splice(0).reverse()) free();
    this.api.release('ReleaseMemoryInfo', this.memoryInfo);
    this.api.release('ReleaseMemoryInfo', this.hostMemoryInfo);
  }
}

/** The user's sentence when the CUDA provider does not start; names the library that the loader missed. */
export function cudaRefused(libraryPath: string, message: string): string {
  const missing = /(?:^|[\s:"'])(lib[\w.+-]+\.so[\w.]*|[\w.-]+\.dll)["']?: cannot open shared object/.exec(
    message,
  )?.[1];
  const remedy = missing
    ? `The library ${missing} was not found: put its folder on LD_LIBRARY_PATH (\`medusa-plus doctor\` lists all that are missing).`
    : 'Run `medusa-plus doctor` to see which CUDA libraries and devices it finds.';
  return `The CUDA provider of ${libraryPath} does not start: ${message}. ${remedy}`;
}
