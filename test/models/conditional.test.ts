import { expect } from 'chai';
import { rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildTree } from '../../src/decoding/tree/candidateTree.js';
import { rowsInMemory } from '../../src/decoding/tree/conditionalTable.js';
import { createRandom } from '../../src/decoding/random.js';
import { openConditional, type OpenConditional } from '../../src/models/conditional.js';
import type { ConditionalEntry } from '../../src/models/manifestSchema.js';
import { ModelError } from '../../src/util/errors.js';
import { collectGarbage, descriptorsOf } from '../support/descriptors.js';
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

describe('openConditional', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    folder = await temporaryFolder();
  });
  after(() => folder.remove());
  const opened: OpenConditional[] = [];
  const open = async (changes: Partial<ConditionalEntry> = {}): Promise<OpenConditional> => {
    const table = await openConditional(folder.path, { ...entry, ...changes });
    opened.push(table);
    return table;
  };
  afterEach(() => opened.splice(0).forEach((table) => table.close()));

  const write = async (tokens: readonly number[], values: readonly number[]): Promise<void> => {
    const content = new DataView(new ArrayBuffer(4 * (tokens.length + values.length)));
    tokens.forEach((token, i) => content.setInt32(4 * i, token, true));
    values.forEach((value, i) => content.setFloat32(4 * (tokens.length + i), value, true));
    await writeFile(join(folder.path, entry.file), content);
  };
  const counting = Array.from({ length: 26 }, (_, i) => i / 4);
  const failure = async (): Promise<string> =>
    openConditional(folder.path, entry).then(
      () => expect.fail('did not throw'),
      (error: Error) => error.message,
    );

  it('reads tokens, the tables of each distance, and the rows of the tokens, little-endian', async () => {
    await write([1, 2, 4], counting);
    const table = await open();
    expect(rows(table).flat()).to.deep.equal(counting.slice(0, 20));
    expect([...table.outputs]).to.deep.equal(counting.slice(20));
    expect([...table.outputRows]).to.deep.equal([-1, 0, 1, -1, 2]);
    expect(table).to.include({ rank: 2, distances: 2, activation: 'silu', usesHidden: true, vocabSize: 5 });
  });

  it('reads the bias and the gain of each head after them', async () => {
    const levels = Array.from({ length: 8 }, (_, i) => -i);
    await write([1, 2, 4], [...counting, ...levels]);
    const table = await open({ levels: 2, bytes: entry.bytes + 32 });
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
    expect(descriptorsOf(join(folder.path, entry.file))).to.equal(0);
  });

  it('makes the trees of a table in memory, with more rows than are kept', async () => {
    const sizes = { vocabSize: 6000, rank: 3, distances: 2, draftVocabSize: 3000 };
    const random = createRandom(7);
    const tokens = Array.from({ length: 3000 }, (_, i) => 2 * i);
    const inputs = Float32Array.from({ length: 2 * 6000 * 3 }, () => 2 * random() - 1);
    const outputs = Float32Array.from({ length: 3000 * 3 }, () => 2 * random() - 1);
    await write(tokens, [...inputs, ...outputs]);
    const table = await open({ ...sizes, context: false, bytes: 4 * (3000 + 36000 + 9000) });
    const inMemory = { ...table, inputs: rowsInMemory(inputs, 6000, 3) };
    for (let i = 0; i < 300; i++) {
      const ids = Int32Array.from({ length: 24 }, () => Math.floor(6000 * random()));
      const probabilities = Float32Array.from({ length: 24 }, (_, at) => 0.3 / (1 + (at % 8)));
      const proposals = { heads: 3, topM: 8, ids, probabilities };
      const build = (from: typeof inMemory) => buildTree(ids[0], proposals, { nodes: 40, depth: 3 }, from);
      expect(build(table)).to.deep.equal(build(inMemory));
    }
    expect(rows(table).flat()).to.deep.equal([...inputs]);
  });

  it('keeps to the file that it opened, and says when that was cut short since', async () => {
    await write([1, 2, 4], counting);
    const path = join(folder.path, entry.file);
    const [table, cut] = [await open(), await open()];
    await rename(path, `${path}.old`);
    await write(
      [1, 2, 4],
      counting.map(() => 9),
    );
    expect(rows(table).flat()).to.deep.equal(counting.slice(0, 20));
    cut.inputs.find(0, 1);
    await truncate(`${path}.old`, 24);
    expect(cut.inputs.values[cut.inputs.find(0, 1)]).to.equal(0.5);
    for (let again = 0; again < 2; again++) {
      expect(() => cut.inputs.find(0, 2)).to.throw(ModelError, /bin has 24 bytes instead of 116\. .*--force/);
    }
  });

  it('leaves no file open: closed, refused or forgotten', async () => {
    const path = join(folder.path, entry.file);
    await write([1, 2, 4], counting);
    const table = await open();
    expect(descriptorsOf(path)).to.equal(1);
    table.close();
    table.close();
    expect(descriptorsOf(path)).to.equal(0);
    expect(() => table.inputs.find(1, 1)).to.throw(ModelError, /cannot be read: it was closed/);
    await openConditional(folder.path, entry);
    await collectGarbage(() => descriptorsOf(path) === 0);
    await write([1, 1, 4], counting);
    await failure();
    expect(descriptorsOf(path)).to.equal(0);
  });
});

/** [D V][r] */
function rows({ inputs, distances, vocabSize, rank }: OpenConditional): number[][] {
  return Array.from({ length: distances * vocabSize }, (_, row) => {
    const from = inputs.find(Math.floor(row / vocabSize), row % vocabSize);
    return [...inputs.values.subarray(from, from + rank)];
  });
}
