import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readConditional } from '../../src/models/conditional.js';
import type { ConditionalEntry } from '../../src/models/manifestSchema.js';
import { temporaryFolder } from '../support/tinyModel.js';

/** 3 tokens of 5 have a row; r = 2, D = 2. */
const entry: ConditionalEntry = {
  file: 'heads.x.conditional.bin',
  bytes: 4 * (3 + 2 * 5 * 2 + 3 * 2),
  sha256: '',
  rank: 2,
  distances: 2,
  activation: 'silu',
  context: true,
  levels: 0,
  vocabSize: 5,
  draftVocabSize: 3,
  sourceSha256: undefined,
};

describe('readConditional', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    folder = await temporaryFolder();
  });
  after(() => folder.remove());

  const write = async (tokens: readonly number[], values: readonly number[]): Promise<void> => {
    const content = new DataView(new ArrayBuffer(4 * (tokens.length + values.length)));
    tokens.forEach((token, i) => content.setInt32(4 * i, token, true));
    values.forEach((value, i) => content.setFloat32(4 * (tokens.length + i), value, true));
    await writeFile(join(folder.path, entry.file), content);
  };
  const counting = Array.from({ length: 26 }, (_, i) => i / 4);
  const failure = async (): Promise<string> =>
    readConditional(folder.path, entry).then(
      () => expect.fail('did not throw'),
      (error: Error) => error.message,
    );

  it('reads tokens, the tables of each distance, and the rows of the tokens, little-endian', async () => {
    await write([1, 2, 4], counting);
    const table = await readConditional(folder.path, entry);
    expect([...table.inputs]).to.deep.equal(counting.slice(0, 20));
    expect([...table.outputs]).to.deep.equal(counting.slice(20));
    expect([...table.outputRows]).to.deep.equal([-1, 0, 1, -1, 2]);
    expect(table).to.include({ rank: 2, distances: 2, activation: 'silu', usesHidden: true, vocabSize: 5 });
  });

  it('reads the bias and the gain of each head after them', async () => {
    const levels = Array.from({ length: 8 }, (_, i) => -i);
    await write([1, 2, 4], [...counting, ...levels]);
    const table = await readConditional(folder.path, { ...entry, levels: 2, bytes: entry.bytes + 32 });
    expect([...table.outputs]).to.deep.equal(counting.slice(20));
    expect([...table.perHead!.biases]).to.deep.equal(levels.slice(0, 4));
    expect([...table.perHead!.gains]).to.deep.equal(levels.slice(4));
  });

  it('refuses tokens that do not ascend or are none, and files cut short', async () => {
    for (const tokens of [
      [1, 1, 4],
      [2, 1, 4],
      [-1, 1, 4],
      [1, 2, 5],
    ]) {
      await write(tokens, counting);
      expect(await failure()).to.match(/heads\.x\.conditional\.bin is damaged: row \d is for token.* 0 to 4/);
    }
    await write([1, 2, 4], counting.slice(0, 9));
    expect(await failure())
      .to.contain('has 48 bytes instead of 116')
      .and.to.contain('--force');
  });
});
