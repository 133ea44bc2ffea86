import { existsSync } from 'node:fs';
import { ModelError, RuntimeFailure } from '../../errors.js';
import { type GraphInterface, requireInterface } from '../graphInterface.js';
import { messageOf, summary, unloadable } from '../messages.js';
import type { Device } from './device.js';
import { type ElementType, type OrtApi, type Pointer } from './ortApi.js';

/** A place in memory that a tensor lies over. */
export interface Place {
  readonly pointer: Pointer;
  /** OrtMemoryInfo that the pointer belongs to. */
  readonly memoryInfo: Pointer;
}

/** One graph through the C API, its inputs and outputs bound to memory by address. */
export class IoSession {
  /** Shapes bound, for error messages. */
  private readonly bound = new Map<string, readonly number[]>();

  private constructor(
    private readonly api: OrtApi,
    readonly path: string,
    private readonly session: Pointer,
    private readonly binding: Pointer,
  ) {}

  /** @throws ModelError when the file is missing, damaged, or another graph than expected */
  static async open(
    api: OrtApi,
    environment: Pointer,
    device: Device,
    path: string,
    expected: GraphInterface,
  ): Promise<IoSession> {
    if (!existsSync(path)) throw new ModelError(`${path} does not exist. Run \`medusa-plus prepare\` again.`);
    const options = device.sessionOptions();
    // An own buffer: a worker thread writes to it, so it must not lie on the heap that the collector moves.
    const out = new BigUint64Array(new ArrayBuffer(8));
    try {
      await api.callAsync('CreateSession', environment, path, options, out);
    } catch (cause) {
      throw new ModelError(unloadable(path, cause), undefined, { cause });
    } finally {
      api.release('ReleaseSessionOptions', options);
    }
    const session = out[0];
    try {
      const graph = {
        inputNames: api.sessionNames(session, 'Input'),
        outputNames: api.sessionNames(session, 'Output'),
      };
      requireInterface(path, graph, expected);
      return new IoSession(api, path, session, api.create('CreateIoBinding', session));
    } catch (error) {
      api.release('ReleaseSession', session);
      throw error;
    }
  }

  /**
   * Binds an input for the runs that follow. When the place is not on the device that reads it, ONNX Runtime copies
   * it now: bind again after every change of the data.
   */
  bindInput(name: string, place: Place, type: ElementType, shape: readonly number[]): void {
    this.bind('BindInput', name, place, type, shape);
  }

  /** Binds an output: a run writes it there (after a copy, when the place is not on the device). */
  bindOutput(name: string, place: Place, type: ElementType, shape: readonly number[]): void {
    this.bind('BindOutput', name, place, type, shape);
  }

  /** Runs on a worker thread. @throws RuntimeFailure naming the graph and the shapes it was given, never the data */
  async run(): Promise<void> {
    try {
      await this.api.callAsync('RunWithBinding', this.session, null, this.binding);
    } catch (cause) {
      const shapes = [...this.bound].map(([name, shape]) => `${name} [${shape.join(', ')}]`);
      throw new RuntimeFailure(
        `${this.path} failed: ${messageOf(cause)}\nBound: ${summary(shapes)}`,
        undefined,
        {
          cause,
        },
      );
    }
  }

  release(): void {
    this.api.release('ReleaseIoBinding', this.binding);
    this.api.release('ReleaseSession', this.session);
  }

  private bind(
    which: 'BindInput' | 'BindOutput',
    name: string,
    { pointer, memoryInfo }: Place,
    type: ElementType,
    shape: readonly number[],
  ): void {
    const value = this.api.tensorOver(memoryInfo, pointer, type, shape);
    try {
      this.api.call(which, this.binding, name, value);
    } finally {
      // The binding holds a reference of its own.
      this.api.release('ReleaseValue', value);
    }
    this.bound.set(name, shape);
  }
}
