import { open } from 'node:fs/promises';
import { endianness } from 'node:os';
import { join } from 'node:path';
import type { ConditionalTable } from '../decoding/tree/conditionalTable.js';
import { ModelError } from '../util/errors.js';
import type { ConditionalEntry } from './manifestSchema.js';
import { prepareAgain } from './prepareCommand.js';

/**
 * Reads a conditional table (docs/formats.md): one read, and views on what was read.
 *
 * @throws ModelError when the file is missing, has another size, or names tokens the model does not have
 */
export async function readConditional(folder: string, entry: ConditionalEntry): Promise<ConditionalTable> {
  const path = join(folder, entry.file);
  const buffer = await readWhole(path, entry.bytes, folder);
  const { rank, distances, vocabSize, draftVocabSize, levels } = entry;
  const inputs = 4 * draftVocabSize;
  const outputs = inputs + 4 * distances * vocabSize * rank;
  const biases = outputs + 4 * draftVocabSize * rank;
  const gains = biases + 4 * levels * rank;
  const tokens = new Int32Array(buffer, 0, draftVocabSize);
  return {
    rank,
    distances,
    activation: entry.activation,
    usesHidden: entry.context,
    perHead:
      levels === 0
        ? undefined
        : {
            biases: new Float32Array(buffer, biases, levels * rank),
            gains: new Float32Array(buffer, gains, levels * rank),
          },
    vocabSize,
    inputs: new Float32Array(buffer, inputs, distances * vocabSize * rank),
    outputs: new Float32Array(buffer, outputs, draftVocabSize * rank),
    outputRows: rowsOf(tokens, vocabSize, `${path} is damaged`, prepareAgain(folder)),
  };
}

async function readWhole(path: string, bytes: number, folder: string): Promise<ArrayBuffer> {
  let found = 0;
  // An own buffer: views need offsets that divide by 4.
  const content = Buffer.from(new ArrayBuffer(bytes));
  try {
    const file = await open(path);
    try {
      for (let read = -1; read !== 0 && found < bytes; found += read) {
        read = (await file.read(content, found, bytes - found, found)).bytesRead;
      }
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new ModelError(
      `${path} cannot be read: ${(cause as Error).message}. ${prepareAgain(folder)}`,
      undefined,
      { cause },
    );
  }
  if (found < bytes) {
    throw new ModelError(`${path} has ${found} bytes instead of ${bytes}. ${prepareAgain(folder)}`);
  }
  if (endianness() === 'BE') content.swap32();
  return content.buffer;
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
