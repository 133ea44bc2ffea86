import { expect } from 'chai';
import { rootTree } from '../../src/decoding/tree/candidateTree.js';
import { acceptanceByDepth, histogram, noTimes, pool, summarize } from '../../src/decoding/statistics.js';
import { dynamicTree } from '../../src/decoding/policy/treePolicy.js';
import type { DecodeStep } from '../../src/decoding/types.js';
import { decodeAll } from '../support/decodeAll.js';
import { TableModel } from '../support/tableModel.js';

const facts = {
  promptTokens: 7,
  cachedPromptTokens: 2,
  finishReason: 'length',
  prefillTime: 20,
  wallTime: 100,
} as const;

const step = (index: number, count: number): DecodeStep => ({
  index,
  tokens: new Array<number>(count).fill(5),
  times: { ...noTimes(), backbone: 10, rest: 1 },
  ...(index > 0 ? { tree: rootTree(5), accepted: { rows: [0], bonus: 5 } } : {}),
});

describe('summarize', () => {
  it('counts the prefill as an inference and its token as new, but as no step', () => {
    const statistics = summarize([step(0, 1), step(1, 3), step(2, 2)], facts);
    expect(statistics).to.include({ ...facts, newTokens: 6, steps: 2, inferences: 3 });
    expect(statistics.tokensPerStep).to.equal(5 / 2);
    expect(statistics.tokensPerInference).to.equal(6 / 3);
    expect(statistics.acceptLengths).to.deep.equal([3, 2]);
    expect(statistics.nodeCounts).to.deep.equal([1, 1]);
  });

  it('puts the wall time that belongs to no stage into rest', () => {
    const { times } = summarize([step(0, 1), step(1, 3), step(2, 2)], facts);
    expect(times).to.include({ backbone: 20, rest: 2 + (100 - 20 - 22) });
  });

  it('gives zeros, not NaN, without steps', () => {
    expect(summarize([step(0, 1)], facts)).to.include({ tokensPerStep: 0, tokensPerInference: 1, steps: 0 });
    expect(summarize([], facts)).to.include({ newTokens: 0, tokensPerInference: 0, inferences: 1 });
  });
});

describe('pool', () => {
  it('pools over all steps rather than averaging the generations', () => {
    const short = summarize([step(0, 1), step(1, 5)], facts);
    const long = summarize([step(0, 1), step(1, 1), step(2, 1), step(3, 1)], facts);
    const pooled = pool([short, long]);
    expect(pooled).to.include({ generations: 2, newTokens: 10, steps: 4, inferences: 6, promptTokens: 14 });
    expect(pooled.tokensPerStep).to.equal(8 / 4);
    expect(pooled.tokensPerInference).to.equal(10 / 6);
    expect(pooled.tokensPerSecond).to.equal(10 / 0.2);
    expect(pooled.acceptHistogram).to.deep.equal([0, 3, 0, 0, 0, 1]);
    expect(pooled.acceptanceByDepth).to.deep.equal([0.25, 0.25, 0.25, 0.25]);
    expect(pooled.nodesPerStep).to.equal(1);
  });

  it('gives zeros for nothing', () => {
    expect(pool([])).to.include({ tokensPerStep: 0, tokensPerInference: 0, tokensPerSecond: 0, steps: 0 });
  });

  it('agrees with what was emitted', async () => {
    const generations = [];
    for (let seed = 0; seed < 5; seed++) {
      const policy = dynamicTree({ nodes: 8, heads: 4, topM: 8 });
      generations.push(
        (await decodeAll(new TableModel({ seed }), [1], { policy, maxNewTokens: 20 + seed })).result,
      );
    }
    const pooled = pool(generations);
    expect(pooled.newTokens).to.equal(20 + 21 + 22 + 23 + 24);
    const counted = pooled.acceptHistogram.reduce((sum, count, length) => sum + count * length, 0);
    expect(counted + pooled.generations).to.equal(pooled.newTokens);
    // Mean accepted depth, once from the shares by depth and once from the counts.
    const depth = pooled.acceptanceByDepth.reduce((sum, share) => sum + share, 0);
    expect(1 + depth).to.be.closeTo(pooled.tokensPerStep, 1e-12);
  });
});

describe('distributions of accept lengths', () => {
  it('count each length and the share that got at least as deep', () => {
    expect(histogram([1, 3, 3, 2])).to.deep.equal([0, 1, 1, 2]);
    expect(acceptanceByDepth([1, 3, 3, 2])).to.deep.equal([0.75, 0.5]);
    expect(histogram([])).to.deep.equal([0]);
    expect(acceptanceByDepth([])).to.deep.equal([]);
    expect(acceptanceByDepth([1, 1])).to.deep.equal([]);
  });
});
