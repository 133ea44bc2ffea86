import { RuntimeFailure } from '../../util/errors.js';
import { messageOf } from '../messages.js';
import { loadKoffi } from './koffi.js';
import type { Pointer } from './ortApi.js';

/** Names of the CUDA runtime library, newest first. A CUDA build of ONNX Runtime has loaded one of them already. */
const NAMES =
  process.platform === 'win32'
    ? ['cudart64_13.dll', 'cudart64_12.dll']
    : ['libcudart.so.13', 'libcudart.so.12', 'libcudart.so'];

const HOST_ALLOC_DEFAULT = 0;
/** cudaMemcpyKind. */
const COPY_KINDS = { 'to device': 1, 'to host': 2 } as const;

export const FIRST_DEVICE = 0;

type Call = (...args: (Pointer | number | BigUint64Array | Int32Array)[]) => number;

/** The few functions of the CUDA runtime that ONNX Runtime's C API has no counterpart for. */
export class CudaRuntime {
  private constructor(
    /** Kept, as in `OrtApi`. */
    readonly library: object,
    private readonly functions: Record<FunctionName, Call>,
    private readonly errorString: (code: number) => string,
  ) {}

  /** @throws RuntimeFailure when no CUDA runtime library can be loaded */
  static async load(): Promise<CudaRuntime> {
    const koffi = await loadKoffi();
    for (const name of NAMES) {
      let library;
      try {
        library = koffi.load(name);
      } catch {
        continue;
      }
      const functions = {} as Record<FunctionName, Call>;
      for (const [name, types] of Object.entries(SIGNATURES)) {
        functions[name as FunctionName] = library.func(name, 'int', [...types]);
      }
      return new CudaRuntime(library, functions, library.func('cudaGetErrorString', 'str', ['int']));
    }
    throw new RuntimeFailure(
      `The CUDA runtime library (${NAMES.join(' or ')}) cannot be loaded. Install CUDA, or put the folder that holds it on LD_LIBRARY_PATH.`,
    );
  }

  /**
   * Takes the first device; CUDA_VISIBLE_DEVICES decides which that is.
   *
   * @throws RuntimeFailure when there is none, or none can be used
   */
  useDevice(): void {
    const count = new Int32Array(1);
    try {
      this.call('cudaGetDeviceCount', count);
    } catch (cause) {
      throw new RuntimeFailure(
        `No CUDA device can be used; is an NVIDIA driver installed, and new enough? (${messageOf(cause)})`,
        undefined,
        { cause },
      );
    }
    if (count[0] === 0) throw new RuntimeFailure('No CUDA device was found.');
    this.call('cudaSetDevice', FIRST_DEVICE);
  }

  /** Bytes of the present device. */
  memory(): { free: number; total: number } {
    const free = new BigUint64Array(1);
    const total = new BigUint64Array(1);
    this.call('cudaMemGetInfo', free, total);
    return { free: Number(free[0]), total: Number(total[0]) };
  }

  /** Zeroed device memory. */
  allocate(bytes: number): Pointer {
    const out = new BigUint64Array(1);
    this.call('cudaMalloc', out, bytes);
    this.call('cudaMemset', out[0], 0, bytes);
    this.call('cudaDeviceSynchronize');
    return out[0];
  }

  free(pointer: Pointer): void {
    this.call('cudaFree', pointer);
  }

  /** Copies between the host and the present device, and waits for it. */
  copy(target: Pointer, source: Pointer, bytes: number, direction: keyof typeof COPY_KINDS): void {
    this.call('cudaMemcpy', target, source, bytes, COPY_KINDS[direction]);
  }

  /** Page-locked host memory. */
  allocatePinned(bytes: number): Pointer {
    const out = new BigUint64Array(1);
    this.call('cudaHostAlloc', out, bytes, HOST_ALLOC_DEFAULT);
    return out[0];
  }

  freePinned(pointer: Pointer): void {
    this.call('cudaFreeHost', pointer);
  }

  private call(name: FunctionName, ...args: Parameters<Call>): void {
    const code = this.functions[name](...args);
    if (code !== 0) throw new RuntimeFailure(`CUDA, ${name}: ${this.errorString(code)} (error ${code}).`);
  }
}

const SIGNATURES = {
  cudaGetDeviceCount: ['void *'],
  cudaSetDevice: ['int'],
  cudaMemGetInfo: ['void *', 'void *'],
  cudaMalloc: ['void *', 'size_t'],
  cudaMemset: ['void *', 'int', 'size_t'],
  cudaMemcpy: ['void *', 'void *', 'size_t', 'int'],
  cudaDeviceSynchronize: [],
  cudaFree: ['void *'],
  cudaHostAlloc: ['void *', 'size_t', 'uint'],
  cudaFreeHost: ['void *'],
} as const;

type FunctionName = keyof typeof SIGNATURES;
