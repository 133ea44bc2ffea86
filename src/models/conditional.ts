import { close, closeSync, fstatSync, openSync, read, readSync } from 'node:fs';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ConditionalTable, InputRows } from '../decoding/tree/conditionalTable.js';
import { ModelError } from '../util/errors.js';
import type { ConditionalEntry } from './manifestSchema.js';
import { prepareAgain } from './prepareCommand.js';

/** A table whose file stays open. */
export interface OpenConditional extends ConditionalTable {
  /** Closes the file; `inputs` has no rows afterwards. Closing again does nothing. */
  close(): void;
}

/**
 * Opens a conditional table (docs/formats.md). What every tree needs is read now, and `inputs`, which is most of the file, row by
 * row as trees need it: `inputs.find` throws ModelError for a row that cannot be read.
 *
 * @throws ModelError when the file is missing, has another size, or names tokens the model does not have
 */
export async function openConditional(folder: string, entry: ConditionalEntry): Promise<OpenConditional> {
  const { rank, distances, vocabSize, draftVocabSize, levels } = entry;
  const file = new OpenFile(join(folder, entry.file), folder, entry.bytes);
  try {
    const inputsAt = 4 * draftVocabSize;
    const outputsAt = inputsAt + 4 * distances * vocabSize * rank;
    const tokens = new Int32Array(await file.read(0, inputsAt));
    const rest = await file.read(outputsAt, entry.bytes - outputsAt);
    const biasesAt = 4 * draftVocabSize * rank;
    const ofHeads = (at: number): Float32Array => new Float32Array(rest, at, levels * rank);
    return {
      rank,
      distances,
      activation: entry.activation,
      usesHidden: entry.context,
      perHead:
        levels === 0
          ? undefined
          : { biases: ofHeads(biasesAt), gains: ofHeads(biasesAt + 4 * levels * rank) },
      vocabSize,
      inputs: new RowsOfFile(file, inputsAt, { rank, distances, vocabSize }),
      outputs: new Float32Array(rest, 0, draftVocabSize * rank),
      outputRows: rowsOf(tokens, vocabSize, `${file.path} is damaged`, prepareAgain(folder)),
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Rows kept, about 3 MB of them: texts and their drafts repeat their tokens. */
const keptRows = 4096;

/** Rows that are read from a file when they are first asked for; each has one place in memory, which it shares with others. */
class RowsOfFile implements InputRows {
  readonly values: Float32Array;
  private readonly bytes: Uint8Array;
  /** [keptRows] the number of the row in each place; -1 for none. */
  private readonly numbers = new Int32Array(keptRows).fill(-1);

  constructor(
    private readonly file: OpenFile,
    private readonly at: number,
    private readonly sizes: { readonly rank: number; readonly distances: number; readonly vocabSize: number },
  ) {
    this.values = new Float32Array(keptRows * sizes.rank);
    this.bytes = new Uint8Array(this.values.buffer);
  }

  find(distance: number, token: number): number {
    const { numbers } = this;
    const { rank, distances, vocabSize } = this.sizes;
    // In this order the rows of the lowest ids, which are the most frequent tokens, have different places.
    const number = token * distances + distance;
    const place = number % keptRows;
    if (numbers[place] !== number) {
      numbers[place] = -1;
      const from = place * 4 * rank;
      const row = this.bytes.subarray(from, from + 4 * rank);
      this.file.readSync(row, this.at + (distance * vocabSize + token) * 4 * rank);
      numbers[place] = number;
    }
    return place * rank;
  }
}

const readSome = promisify(read);

/** Closes the file of a table that nobody closed and nobody has any more. */
const forgotten = new FinalizationRegistry<number>((descriptor) => close(descriptor, () => {}));

/** A file of little-endian values of 4 bytes. It stays the file that was opened when another one takes its name. */
class OpenFile {
  private descriptor: number | undefined;

  /** @throws ModelError unless there is a file of that size */
  constructor(
    readonly path: string,
    private readonly folder: string,
    private readonly size: number,
  ) {
    this.descriptor = this.explained(() => openSync(path, 'r'));
    forgotten.register(this, this.descriptor, this);
    try {
      this.checkSize();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async read(at: number, bytes: number): Promise<ArrayBuffer> {
    const content = new Uint8Array(bytes);
    for (let done = 0; done < bytes;) {
      const { bytesRead } = await readSome(this.open, content, done, bytes - done, at + done).catch(
        this.fail,
      );
      if (bytesRead === 0) this.checkSize();
      done += bytesRead;
    }
    return toNative(content).buffer;
  }

  readSync(content: Uint8Array, at: number): void {
    for (let done = 0; done < content.length;) {
      const bytesRead = this.explained(() =>
        readSync(this.open, content, done, content.length - done, at + done),
      );
      if (bytesRead === 0) this.checkSize();
      done += bytesRead;
    }
    toNative(content);
  }

  close(): void {
    const { descriptor } = this;
    if (descriptor === undefined) return;
    this.descriptor = undefined;
    forgotten.unregister(this);
    closeSync(descriptor);
  }

  private get open(): number {
    if (this.descriptor !== undefined) return this.descriptor;
    throw new Error('it was closed');
  }

  private explained<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      return this.fail(cause as Error);
    }
  }

  private readonly fail = (cause: Error): never => {
    const message = `${this.path} cannot be read: ${cause.message}. ${prepareAgain(this.folder)}`;
    throw new ModelError(message, undefined, { cause });
  };

  private checkSize(): void {
    const found = this.explained(() => fstatSync(this.open).size);
    if (found === this.size) return;
    throw new ModelError(
      `${this.path} has ${found} bytes instead of ${this.size}. ${prepareAgain(this.folder)}`,
    );
  }
}

function toNative<T extends Uint8Array>(content: T): T {
  if (endianness() === 'BE') Buffer.from(content.buffer, content.byteOffset, content.length).swap32();
  return content;
}

/** [vocabSize] the row of each token, from the ascending tokens of the rows; -1 for those without one. */
function rowsOf(tokens: Int32Array, vocabSize: number, what: string, fix: string): Int32Array {
  const rows = new Int32Array(vocabSize).fill(-1);
  let previous = -1;
  for (let row = 0; row < tokens.length; row++) {
    const token = tokens[row];
    if (token <= previous || token >= vocabSize) {
      throw new ModelError(
        `${what}: row ${row} is for token ${token}; tokens must ascend from 0 to ${vocabSize - 1}. ${fix}`,
      );
    }
    rows[token] = row;
    previous = token;
  }
  return rows;
}
