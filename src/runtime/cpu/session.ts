import { existsSync } from 'node:fs';
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import { ModelError, RuntimeFailure } from '../../util/errors.js';
import { type GraphInterface, requireInterface } from '../graphInterface.js';
import { graphMissing, messageOf, summary, unloadable } from '../messages.js';
import { int8Products, unsignedWeights } from './kernels.js';
import { InferenceSession, type Tensor } from './ort.js';

export type Feeds = Record<string, Tensor>;

/**
 * One graph on the CPU through onnxruntime-node, with errors that name the file and the shapes.
 */
export class CpuSession {
  private constructor(
    private readonly session: InferenceSession,
    readonly path: string,
  ) {}

  /**
   * Loads a graph and checks that it has the given inputs and outputs.
   *
   * @param threads inside an operator; 0 lets ONNX Runtime choose
   * @throws ModelError when the file is missing, damaged, or another graph than expected
   */
  static async open(path: string, threads: number, expected: GraphInterface): Promise<CpuSession> {
    if (!existsSync(path)) throw new ModelError(graphMissing(path));
    const products = (await int8Products()) === 'unsigned' ? unsignedWeights : {};
    let session: InferenceSession;
    try {
      session = await InferenceSession.create(path, {
        executionProviders: ['cpu'],
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        interOpNumThreads: 1,
        intraOpNumThreads: threads,
        logSeverityLevel: 3,
        // Threads spin within a run and stop with it, so that the sessions do not take each other's cores in turn.
        extra: { session: { intra_op: { allow_spinning: '1' }, force_spinning_stop: '1', ...products } },
      });
    } catch (cause) {
      throw new ModelError(unloadable(path, cause), undefined, { cause });
    }
    try {
      requireInterface(path, session, expected);
    } catch (error) {
      await session.release();
      throw error;
    }
    await turnOfTheLoop();
    return new CpuSession(session, path);
  }

  /** @throws RuntimeFailure naming the graph and the types and shapes it was given, never the data */
  async run(feeds: Feeds, fetches: readonly string[]): Promise<InferenceSession.ReturnType> {
    try {
      const outputs = await this.session.run(feeds, fetches);
      // A run blocks the event loop, and what follows it would begin the next one first: a Ctrl-C that came meanwhile has
      // to be heard before.
      await turnOfTheLoop();
      return outputs;
    } catch (cause) {
      const inputs = Object.entries(feeds).map(
        ([name, { type, dims }]) => `${name} ${type}[${dims.join(', ')}]`,
      );
      throw new RuntimeFailure(
        `${this.path} failed: ${messageOf(cause)}\nInputs: ${summary(inputs)}`,
        undefined,
        {
          cause,
        },
      );
    }
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}
