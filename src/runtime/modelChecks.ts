import { RuntimeFailure } from '../util/errors.js';
import type { CandidateTree } from '../decoding/types.js';

/**
 * What every implementation of `DraftingModel` refuses: calls that would run beyond its buffers or its cache. None of it is
 * reached by a user, whose prompt the engine has checked.
 */

/** @param most rows of one run */
export function checkPrompt(count: number, most: number, cachedLength: number, contextLength: number): void {
  const room = Math.min(most, contextLength - cachedLength);
  if (count >= 1 && count <= room) return;
  throw new RangeError(
    `A run takes 1 to ${room} tokens after ${cachedLength} cached ones (context ${contextLength}), not ${count}.`,
  );
}

export function checkTree(tree: CandidateTree, cachedLength: number, contextLength: number): void {
  let deepest = 0;
  for (let row = 0; row < tree.size; row++) deepest = Math.max(deepest, tree.depths[row]);
  if (cachedLength + deepest >= contextLength) {
    throw new RangeError(
      `A tree of depth ${deepest} after ${cachedLength} tokens does not fit the context of ${contextLength}.`,
    );
  }
}

export function checkTruncation(length: number, cachedLength: number): void {
  if (!Number.isInteger(length) || length < 0 || length > cachedLength) {
    throw new RangeError(`Cannot truncate the cache to ${length}: it holds ${cachedLength} positions.`);
  }
}

export function checkRows(rows: readonly number[], verified: number): void {
  if (rows.length === 0) throw new RangeError('keep needs at least one row, the root.');
  for (const row of rows) {
    if (!Number.isInteger(row) || row < 0 || row >= verified) {
      throw new RangeError(`Row ${row} is not among the ${verified} rows verified last.`);
    }
  }
}

export function checkTopM(topM: number, maxTopM: number): void {
  if (!Number.isInteger(topM) || topM < 1 || topM > maxTopM) {
    throw new RangeError(`The heads give 1 to ${maxTopM} candidates, not ${topM}.`);
  }
}

export function checkRoot(root: number, vocabSize: number): void {
  if (!Number.isInteger(root) || root < 0 || root >= vocabSize) {
    throw new RangeError(`The root is a token from 0 to ${vocabSize - 1}, not ${root}.`);
  }
}

/** Refuses a call while another is under way: both would write the same buffers. */
export class Turn {
  private current?: Promise<unknown>;

  async take<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.current) throw new RuntimeFailure('Two calls to one model overlap. Wait for the first to end.');
    const running = Promise.resolve(work());
    this.current = running;
    try {
      return await running;
    } finally {
      this.current = undefined;
    }
  }

  /** Waits for the call under way, however it ends. */
  async rest(): Promise<void> {
    await this.current?.catch(() => undefined);
  }
}
