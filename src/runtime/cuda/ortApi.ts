import { RuntimeFailure } from '../../util/errors.js';
import { messageOf } from '../messages.js';
import { switchOffTelemetryInWorker } from '../telemetry.js';
import { type Koffi, loadKoffi } from './koffi.js';

/** An address in native memory. */
export type Pointer = bigint;

/** Element types by their number in ONNX. */
export const ElementType = { float32: 1, int32: 6, int64: 7, float16: 10 } as const;
export type ElementType = (typeof ElementType)[keyof typeof ElementType];

const ELEMENT_BYTES: Record<ElementType, number> = { 1: 4, 6: 4, 7: 8, 10: 2 };

/** The version of the C API asked for. The table only ever grows, so later libraries serve it as well. */
const API_VERSION = 24;

/**
 * Functions of the OrtApi table by their index (the table is append-only), with parameter types. All return a status
 * but those listed in RETURNS.
 */
const TABLE = {
  GetErrorMessage: [2, 'void *'],
  CreateEnv: [3, 'int', 'str', 'void *'],
  CreateSession: [7, 'void *', process.platform === 'win32' ? 'str16' : 'str', 'void *', 'void *'],
  CreateSessionOptions: [10, 'void *'],
  SetSessionLogSeverityLevel: [22, 'void *', 'int'],
  SetSessionGraphOptimizationLevel: [23, 'void *', 'int'],
  SetIntraOpNumThreads: [24, 'void *', 'int'],
  SessionGetInputCount: [30, 'void *', 'void *'],
  SessionGetOutputCount: [31, 'void *', 'void *'],
  SessionGetInputName: [36, 'void *', 'size_t', 'void *', 'void *'],
  SessionGetOutputName: [37, 'void *', 'size_t', 'void *', 'void *'],
  CreateRunOptions: [39, 'void *'],
  CreateTensorWithDataAsOrtValue: [49, 'void *', 'void *', 'size_t', 'void *', 'size_t', 'int', 'void *'],
  CreateMemoryInfo: [68, 'str', 'int', 'int', 'int', 'void *'],
  CreateCpuMemoryInfo: [69, 'int', 'int', 'void *'],
  AllocatorFree: [76, 'void *', 'void *'],
  GetAllocatorWithDefaultOptions: [78, 'void *'],
  ReleaseEnv: [92, 'void *'],
  ReleaseStatus: [93, 'void *'],
  ReleaseMemoryInfo: [94, 'void *'],
  ReleaseSession: [95, 'void *'],
  ReleaseValue: [96, 'void *'],
  ReleaseRunOptions: [97, 'void *'],
  ReleaseSessionOptions: [100, 'void *'],
  GetAvailableProviders: [125, 'void *', 'void *'],
  ReleaseAvailableProviders: [126, 'void *', 'int'],
  AddSessionConfigEntry: [130, 'void *', 'str', 'str'],
  RunWithBinding: [133, 'void *', 'void *', 'void *'],
  CreateIoBinding: [134, 'void *', 'void *'],
  ReleaseIoBinding: [135, 'void *'],
  BindInput: [136, 'void *', 'str', 'void *'],
  BindOutput: [137, 'void *', 'str', 'void *'],
  AddRunConfigEntry: [165, 'void *', 'str', 'str'],
  AppendCuda: [204, 'void *', 'void *'],
  CreateCudaOptions: [205, 'void *'],
  UpdateCudaOptions: [206, 'void *', 'str *', 'str *', 'size_t'],
  ReleaseCudaOptions: [208, 'void *'],
} as const satisfies Record<string, readonly [number, ...string[]]>;

type FunctionName = keyof typeof TABLE;

const RETURNS: Partial<Record<FunctionName, string>> = {
  GetErrorMessage: 'str',
  ...Object.fromEntries(
    Object.keys(TABLE)
      .filter((name) => name.startsWith('Release') && name !== 'ReleaseAvailableProviders')
      .map((name) => [name, 'void']),
  ),
};

/** What koffi passes for a pointer: an address, memory of JavaScript for the length of the call, or NULL. */
type Argument = Pointer | ArrayBufferView | number | string | readonly string[] | null;
type Native = ((...args: Argument[]) => unknown) & {
  async: (...args: [...Argument[], (error: Error | null, result: unknown) => void]) => void;
};

/**
 * The C API of one ONNX Runtime library. Statuses become errors; pointers come back as plain addresses, which the
 * caller releases.
 */
export class OrtApi {
  private readonly functions: Record<FunctionName, Native>;
  /** Receives a pointer or a size from a call. */
  private readonly out = new BigUint64Array(1);

  private constructor(
    private readonly koffi: Koffi,
    /** Kept: koffi unloads a library when its handle is collected, and the table's functions with it. */
    readonly library: object,
    table: Pointer,
    /** For example `1.30.0`. */
    readonly version: string,
    readonly libraryPath: string,
  ) {
    const bind = (name: FunctionName): Native => {
      const [index, ...parameters] = TABLE[name];
      const type = koffi.proto(RETURNS[name] ?? 'void *', [...parameters]);
      return koffi.decode(koffi.decode(table, index * 8, 'void *'), type) as Native;
    };
    this.functions = Object.fromEntries(
      (Object.keys(TABLE) as FunctionName[]).map((name) => [name, bind(name)]),
    ) as Record<FunctionName, Native>;
  }

  /**
   * Loads a library.
   *
   * @param path of libonnxruntime
   * @throws RuntimeFailure when koffi or the library cannot be loaded, or the library is older than the API needed
   */
  static async load(path: string): Promise<OrtApi> {
    const koffi = await loadKoffi();
    await switchOffTelemetryInWorker();
    await claimLibraryName();
    let library: ReturnType<Koffi['load']>;
    let base: Pointer;
    try {
      library = koffi.load(path);
      base = library.func('OrtGetApiBase', 'void *', [])() as Pointer;
    } catch (cause) {
      throw new RuntimeFailure(
        `${path} cannot be loaded as an ONNX Runtime library: ${messageOf(cause)}.`,
        undefined,
        { cause },
      );
    }
    const getVersion = koffi.decode(koffi.decode(base, 8, 'void *'), koffi.proto('str', [])) as () => string;
    const getApi = koffi.decode(koffi.decode(base, 0, 'void *'), koffi.proto('void *', ['uint32_t'])) as (
      version: number,
    ) => Pointer | null;
    const version = getVersion();
    // The library complains on stderr about versions it does not know, so ask only when it can know.
    const table = isAtLeast(version, [1, API_VERSION]) ? getApi(API_VERSION) : null;
    if (!table) {
      throw new RuntimeFailure(`${path} is ONNX Runtime ${version}; at least 1.${API_VERSION} is needed.`);
    }
    return new OrtApi(koffi, library, table, version, path);
  }

  /** Calls a function that returns a status. @throws RuntimeFailure with ONNX Runtime's own message */
  call(name: FunctionName, ...args: Argument[]): void {
    this.check(name, this.functions[name](...args));
  }

  /** Calls a function whose last parameter receives a pointer or a size. */
  create(name: FunctionName, ...args: Argument[]): Pointer {
    this.call(name, ...args, this.out);
    return this.out[0];
  }

  /** Calls a function that returns nothing. */
  release(name: FunctionName & `Release${string}`, pointer: Pointer): void {
    this.functions[name](pointer);
  }

  /** Like `call`, on a worker thread. Memory passed by address must stay alive. */
  callAsync(name: FunctionName, ...args: Argument[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.functions[name].async(...args, (error, status) => {
        try {
          if (error) throw error;
          this.check(name, status);
          resolve();
        } catch (cause) {
          // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
          reject(cause);
        }
      });
    });
  }

  /** Names of the execution providers that the library was built with. */
  availableProviders(): string[] {
    const names = new BigUint64Array(1);
    const count = new Int32Array(1);
    this.call('GetAvailableProviders', names, count);
    try {
      return this.strings(names[0], count[0]);
    } finally {
      this.call('ReleaseAvailableProviders', names[0], count[0]);
    }
  }

  /** Inputs' or outputs' names of a session. */
  sessionNames(session: Pointer, which: 'Input' | 'Output'): string[] {
    const allocator = this.create('GetAllocatorWithDefaultOptions');
    const count = Number(this.create(`SessionGet${which}Count`, session));
    return Array.from({ length: count }, (_, i) => {
      const name = this.create(`SessionGet${which}Name`, session, i, allocator);
      const text = this.koffi.decode.string(name);
      this.call('AllocatorFree', allocator, name);
      return text;
    });
  }

  /** Address of memory that JavaScript owns; valid while the caller keeps `memory`. */
  addressOf(memory: ArrayBuffer | ArrayBufferView): Pointer {
    return this.koffi.address(memory);
  }

  /** Native memory as a JavaScript buffer, without a copy. */
  view(pointer: Pointer, bytes: number): ArrayBuffer {
    return this.koffi.view(pointer, bytes);
  }

  /** A tensor over existing memory. The caller releases the value, and keeps the memory for as long as it lives. */
  tensorOver(memoryInfo: Pointer, data: Pointer, type: ElementType, shape: readonly number[]): Pointer {
    let elements = 1;
    for (const dimension of shape) elements *= dimension;
    return this.create(
      'CreateTensorWithDataAsOrtValue',
      memoryInfo,
      data,
      elements * ELEMENT_BYTES[type],
      BigInt64Array.from(shape, BigInt),
      shape.length,
      type,
    );
  }

  private strings(array: Pointer, count: number): string[] {
    return Array.from({ length: count }, (_, i) =>
      this.koffi.decode.string(this.koffi.decode(array, i * 8, 'void *')),
    );
  }

  private check(name: FunctionName, status: unknown): void {
    if (!status) return;
    const message = this.functions.GetErrorMessage(status as Pointer) as string;
    this.functions.ReleaseStatus(status as Pointer);
    throw new RuntimeFailure(`ONNX Runtime ${this.version}, ${name}: ${message}`);
  }
}

/**
 * onnxruntime-node asks the system's loader for a library by its name, `libonnxruntime.so.1`, and would be given the one
 * loaded here, whose version is another: the CPU provider could not be used in this process any more. So it comes first;
 * a library that is loaded by its path does not care.
 */
async function claimLibraryName(): Promise<void> {
  // Where it cannot be loaded there is nothing to spoil; who needs it will hear why.
  await import('../cpu/ort.js').catch(() => {});
}

/** Compares a dotted version with [major, minor]. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [a = 0, b = 0] = version.split('.').map((part) => Number.parseInt(part, 10) || 0);
  return a > major || (a === major && b >= minor);
}
