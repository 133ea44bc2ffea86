import { existsSync } from 'node:fs';
import { ModelError, RuntimeFailure } from '../../util/errors.js';
import { type GraphInterface, requireInterface } from '../graphInterface.js';
import { graphMissing, messageOf, summary, unloadable } from '../messages.js';
import { getOrMake } from './getOrMake.js';
import { type ElementType, type OrtApi, type Pointer } from './ortApi.js';

/** A place in memory that a tensor lies over. */
export interface Place {
  readonly pointer: Pointer;
  /** OrtMemoryInfo that the pointer belongs to. */
  readonly memoryInfo: Pointer;
}

/** One graph through the C API. What it reads and writes is bound to memory by address: see `newBinding`. */
export class IoSession {
  private readonly bindings: IoBinding[] = [];

  private constructor(
    private readonly api: OrtApi,
    readonly path: string,
    private readonly session: Pointer,
  ) {}

  /**
   * @param sessionOptions of the device; released here
   * @throws ModelError when the file is missing, damaged, or another graph than expected
   */
  static async open(
    api: OrtApi,
    environment: Pointer,
    sessionOptions: Pointer,
    path: string,
    expected: GraphInterface,
  ): Promise<IoSession> {
    // An own buffer: a worker thread writes to it, so it must not lie on the heap that the collector moves.
    const out = new BigUint64Array(new ArrayBuffer(8));
    try {
      if (!existsSync(path)) throw new ModelError(graphMissing(path));
      await api.callAsync('CreateSession', environment, path, sessionOptions, out);
    } catch (cause) {
      if (cause instanceof ModelError) throw cause;
      throw new ModelError(unloadable(path, cause), undefined, { cause });
    } finally {
      api.release('ReleaseSessionOptions', sessionOptions);
    }
    const session = out[0];
    try {
      const graph = {
        inputNames: api.sessionNames(session, 'Input'),
        outputNames: api.sessionNames(session, 'Output'),
      };
      requireInterface(path, graph, expected);
      return new IoSession(api, path, session);
    } catch (error) {
      api.release('ReleaseSession', session);
      throw error;
    }
  }

  /** A set of bound inputs and outputs; released with the session. */
  newBinding(): IoBinding {
    const binding = new IoBinding(this.api, this.path, this.session);
    this.bindings.push(binding);
    return binding;
  }

  release(): void {
    for (const binding of this.bindings) binding.release();
    this.api.release('ReleaseSession', this.session);
  }
}

/** The inputs and outputs of a session's runs. A session may have several bindings, one for each set of shapes, say. */
export class IoBinding {
  private readonly binding: Pointer;
  /** Shapes bound, for error messages. */
  private readonly bound = new Map<string, readonly number[]>();

  constructor(
    private readonly api: OrtApi,
    private readonly path: string,
    private readonly session: Pointer,
  ) {
    this.binding = api.create('CreateIoBinding', session);
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

  /**
   * Runs on this thread. The CUDA provider keeps captured graphs for each thread that runs, so replaying them takes
   * one and the same thread.
   *
   * @param runOptions OrtRunOptions, null for none
   * @throws RuntimeFailure naming the graph and the shapes it was given, never the data
   */
  run(runOptions: Pointer | null): void {
    try {
      this.api.call('RunWithBinding', this.session, runOptions, this.binding);
    } catch (cause) {
      const shapes = [...this.bound].map(([name, shape]) => `${name} [${shape.join(', ')}]`);
      const message = `${this.path} failed: ${messageOf(cause)}\nBound: ${summary(shapes)}`;
      throw new RuntimeFailure(message, undefined, { cause });
    }
  }

  release(): void {
    this.api.release('ReleaseIoBinding', this.binding);
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

/** Run option: which captured graph a run replays (captured at its first run). */
const GRAPH_ID = 'gpu_graph_id';
/** Runs without a graph. */
const NO_GRAPH = '-1';

/** OrtRunOptions that name the CUDA graph of each shape of a session's runs. */
export class GraphOptions {
  private readonly made = new Map<unknown, Pointer>();

  constructor(
    private readonly api: OrtApi,
    /** Whether the session captures graphs at all. */
    private readonly enabled: boolean,
  ) {}

  /**
   * The options of the runs of one shape, the same ones for the same key; null where graphs are not in use.
   *
   * @param captured false for shapes that come seldom: they run as they are
   */
  for(key: unknown, captured = true): Pointer | null {
    if (!this.enabled) return null;
    return getOrMake(this.made, key, () => {
      const options = this.api.create('CreateRunOptions');
      // Ids begin at 1: 0 is ONNX Runtime's own.
      const graph = captured ? String(this.made.size + 1) : NO_GRAPH;
      this.api.call('AddRunConfigEntry', options, GRAPH_ID, graph);
      return options;
    });
  }

  release(): void {
    for (const options of this.made.values()) this.api.release('ReleaseRunOptions', options);
    this.made.clear();
  }
}
