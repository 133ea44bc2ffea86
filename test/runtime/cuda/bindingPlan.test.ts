import { expect } from 'chai';
import { RuntimeFailure } from '../../../src/util/errors.js';
import {
  biasColumns,
  cacheBytes,
  cacheOffset,
  packHeadInputs,
  packInputs,
  packMove,
  packProposals,
  rowBucket,
  rowMove,
  type SharedPlan,
} from '../../../src/runtime/cuda/bindingPlan.js';
import { estimateDeviceMemory, requireMemory } from '../../../src/runtime/cuda/memoryEstimate.js';

/** Llama 2 7B in float16. */
const llama: SharedPlan = {
  shape: {
    layers: 32,
    hiddenSize: 4096,
    queryHeads: 32,
    kvHeads: 32,
    headDim: 128,
    vocabSize: 32000,
    contextLength: 4096,
  },
  capacity: 4096,
  elementBytes: 2,
};
const llamaWeights = 13_476_839_424;
const rows = { perRun: 256, verified: 64 };
const GiB = 2 ** 30;

describe('runtime: the binding plan', () => {
  it('lays layers, keys and values, and heads out one after the other', () => {
    const block = 4096 * 128 * 2;
    expect(cacheOffset(llama, 0, 0)).to.equal(0);
    expect(cacheOffset(llama, 0, 1)).to.equal(32 * block);
    expect(cacheOffset(llama, 3, 0)).to.equal(6 * 32 * block);
    expect(cacheOffset(llama, 31, 1) + 32 * block).to.equal(cacheBytes(llama));
    expect(cacheBytes(llama)).to.equal(2 * GiB);
  });

  it('spans a bucket of columns that exceeds past and rows, but never the capacity', () => {
    expect(biasColumns(llama, 0, 1)).to.equal(256);
    expect(biasColumns(llama, 191, 64)).to.equal(256);
    expect(biasColumns(llama, 192, 64)).to.equal(512);
    expect(biasColumns(llama, 0, 256)).to.equal(512);
    expect(biasColumns(llama, 1024, 64)).to.equal(1280);
    expect(biasColumns(llama, 4090, 6)).to.equal(4096);
    expect(biasColumns({ capacity: 100 }, 99, 1)).to.equal(100);
  });

  it('pads rows to few sizes', () => {
    const sizes = new Set(Array.from({ length: 64 }, (_, i) => rowBucket(i + 1)));
    expect([...sizes]).to.deep.equal([1, 2, 4, 8, 16, 32, 64]);
    expect([65, 128, 200, 256].map(rowBucket)).to.deep.equal([128, 128, 256, 256]);
    for (let rows = 1; rows < 300; rows++) expect(rowBucket(rows)).to.be.at.least(rows);
  });

  it('packs inputs apart from each other, each where any type may lie', () => {
    const packed = packInputs({ rows: 3, outputs: 1, columns: 256 }, 2);
    expect(packed).to.deep.equal({
      bias: 0,
      ids: 1536,
      positions: 1792,
      outputRows: 2048,
      lastKey: 2304,
      bytes: 2308,
    });
  });

  it('moves only the rows behind the first gap', () => {
    expect(rowMove([0], 10)).to.equal(undefined);
    expect(rowMove([0, 1, 2], 10)).to.equal(undefined);
    expect(rowMove([0, 2], 10)).to.deep.equal({ from: [12], to: 11 });
    expect(rowMove([0, 1, 4, 5], 100)).to.deep.equal({ from: [104, 105], to: 102 });
  });

  it('sends kilobytes over PCIe, not the cache', () => {
    const columns = biasColumns(llama, 1024, 64);
    const inputs = packInputs({ rows: 64, outputs: 64, columns }, llama.elementBytes).bytes;
    expect(inputs).to.equal(64 * 1280 * 2 + 3 * 64 * 8 + 4);
    const move = packMove(llama.shape, 3).bytes;
    expect(move).to.equal((2048 + 3) * 8);
    expect(packHeadInputs(false).bytes).to.equal(8);
    expect(packHeadInputs(true)).to.deep.equal({ row: 0, token: 8, bytes: 16 });
    const proposals = packProposals(4, 32).bytes;
    expect(proposals).to.equal(4 * 32 * 12);
    expect(packProposals(4, 32, 96).bytes).to.equal(proposals + 4 * 96 * 4);
    const toHost = 64 * 8 + proposals;
    expect(inputs + move + 16 + toHost).to.be.below(2 ** 18);
  });
});

describe('runtime: device memory', () => {
  it('adds weights, cache and work', () => {
    const { weights, cache, workspace, total } = estimateDeviceMemory(llama, llamaWeights, rows);
    expect(weights).to.equal(llamaWeights);
    expect(cache).to.equal(2 * GiB);
    expect(workspace).to.be.within(0.6 * GiB, 2 * GiB);
    expect(total).to.equal(weights + cache + workspace);
  });

  it('accepts what fits and says what would fit', () => {
    const { total } = estimateDeviceMemory(llama, llamaWeights, rows);
    expect(() => requireMemory(llama, llamaWeights, rows, total)).not.to.throw();
    expect(() => requireMemory(llama, llamaWeights, rows, total - 1)).to.throw(
      RuntimeFailure,
      /needs 15\.\d GiB on the CUDA device for 4096 positions .*3840 positions would fit/,
    );
    expect(() => requireMemory(llama, llamaWeights, rows, 8 * GiB)).to.throw(
      RuntimeFailure,
      /Not even a short context/,
    );
  });

  it('proposes a capacity that it would accept itself', () => {
    let proposed = 0;
    for (let free = 14 * GiB; free < 16 * GiB; free += 0.13 * GiB) {
      const message = (() => {
        try {
          requireMemory(llama, llamaWeights, rows, free);
          return '';
        } catch (error) {
          return (error as Error).message;
        }
      })();
      const capacity = Number(/(\d+) positions would fit/.exec(message)?.[1] ?? 0);
      if (capacity === 0) continue;
      proposed++;
      expect(() => requireMemory({ ...llama, capacity }, llamaWeights, rows, free)).not.to.throw();
      expect(() =>
        requireMemory({ ...llama, capacity: capacity + 256 }, llamaWeights, rows, free),
      ).to.throw();
    }
    expect(proposed).to.be.above(5);
  });
});
