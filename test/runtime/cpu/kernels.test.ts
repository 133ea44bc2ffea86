import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { extremes, int8Products, leastRowsOfBlocks } from '../../../src/runtime/cpu/kernels.js';
import { Tensor } from '../../../src/runtime/cpu/ort.js';
import { CpuSession } from '../../../src/runtime/cpu/session.js';
import { encodeGraph } from '../../../src/runtime/cpu/smallGraph.js';
import { temporaryFolder } from '../../support/tinyModel.js';

describe('int8 kernels', () => {
  it('give exact products at the extremes, in sessions opened as the graphs are', async () => {
    const folder = await temporaryFolder();
    try {
      const path = join(folder.path, 'extremes.onnx');
      await writeFile(path, encodeGraph(extremes));
      const session = await CpuSession.open(path, 1, { inputs: ['x'], outputs: ['y'] });
      const columns = extremes.columns;
      for (const rows of [1, 2, 4, 8, 16, 64]) {
        const x = new Tensor('uint8', new Uint8Array(rows * columns).fill(255), [rows, columns]);
        const y = (await session.run({ x }, ['y'])).y.data as Float32Array;
        const expected = Float32Array.from(y, (_, i) => (i % 2 ? -1 : 1) * 127 * 127 * columns);
        expect(y, `${rows} rows`).to.deep.equal(expected);
      }
      await session.release();
    } finally {
      await folder.remove();
    }
  });

  it('are found to be exact one way or the other', async () => {
    expect(await int8Products()).to.be.oneOf(['exact', 'unsigned']);
  });

  it('need a known number of rows in blocks', async () => {
    expect(await leastRowsOfBlocks(8)).to.be.oneOf([1, 2, 4, 8]);
    expect(await leastRowsOfBlocks(4)).to.be.oneOf([1, 2, 4, 8]);
  });
});
