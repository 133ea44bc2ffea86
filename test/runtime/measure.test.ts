import { expect } from 'chai';
import type { DraftingModel } from '../../src/decoding/types.js';
import { measureHeads, measureRowExactness, measureStepCost } from '../../src/runtime/index.js';
import { int8Options, openSplit, randomIds } from './tiny.js';

describe('runtime: measuring steps', () => {
  it('times every size that fits and leaves the cache as it was', async () => {
    const model = await openSplit();
    try {
      const curve = await measureStepCost(model, [1, 4, 16], { pastLength: 40, repeats: 2 });
      expect(curve.map(({ nodes }) => nodes)).to.deep.equal([1, 4, 16]);
      for (const { milliseconds } of curve) expect(milliseconds).to.be.within(0.001, 1000);
      expect(model.cachedLength).to.equal(0);
      await model.prefill(randomIds(50, 1), { logits: false });
      await measureStepCost(model, [2], { pastLength: 100, repeats: 1 });
      expect(model.cachedLength).to.equal(50);
      expect(await measureHeads(model, 8, { repeats: 2 })).to.be.above(0);
      expect(model.cachedLength).to.equal(50);
    } finally {
      await model.dispose();
    }
  });

  it('looks behind a longer past too, where the context has one', async () => {
    const model = await openSplit();
    try {
      let longest = 0;
      const verify = model.verify.bind(model);
      model.verify = async (tree, options) => {
        longest = Math.max(longest, model.cachedLength);
        const rows = await verify(tree, options);
        if (model.cachedLength > 200) await new Promise((resolve) => setTimeout(resolve, 20 * tree.size));
        return rows;
      };
      const options = { behindLonger: [1, 4], repeats: 1 };
      const [one, two, four] = await measureStepCost(model, [1, 2, 4], { ...options, pastLength: 0 });
      expect(longest).to.equal(256);
      expect(one.perPosition).to.be.within(15 / 255, 40 / 255);
      expect(two.perPosition).to.equal(undefined);
      expect(four.perPosition).to.be.within(70 / 255, 120 / 255);
      expect(model.cachedLength).to.equal(0);
      const [near] = await measureStepCost(model, [1], { ...options, pastLength: 100 });
      expect(near.perPosition).to.equal(undefined);
    } finally {
      await model.dispose();
    }
  });

  it('ends after the run under way when it is aborted', async () => {
    const model = await openSplit();
    try {
      const controller = new AbortController();
      const verify = model.verify.bind(model);
      let runs = 0;
      model.verify = (tree, options) => {
        if (++runs === 3) controller.abort();
        return verify(tree, options);
      };
      const measuring = measureStepCost(model, [1, 4], { signal: controller.signal });
      const error = await measuring.then(
        () => expect.fail('did not end'),
        (reason: Error) => reason,
      );
      expect(error.name).to.equal('AbortError');
      expect(runs).to.equal(3);
      expect(model.cachedLength).to.equal(0);
    } finally {
      await model.dispose();
    }
  });

  it('leaves out sizes that the context has no room for, and heads that are not there', async () => {
    const model = await openSplit({ contextLength: 20, heads: undefined });
    try {
      const curve = await measureStepCost(model, [1, 8, 16], { repeats: 1 });
      expect(curve.map(({ nodes }) => nodes)).to.deep.equal([1, 8]);
      expect(await measureHeads(model, 8)).to.equal(undefined);
    } finally {
      await model.dispose();
    }
  });

  it('looks at no size beyond the first that costs too much, and ends when its time is over', async () => {
    const model = await openSplit();
    try {
      const sizes: number[] = [];
      model.verify = async (tree) => {
        sizes.push(tree.size);
        await new Promise((resolve) => setTimeout(resolve, 4 * tree.size));
        return { rows: tree.size, nextTokens: new Int32Array(tree.size), vocabSize: model.vocabSize };
      };
      const progress: number[] = [];
      const curve = await measureStepCost(model, [1, 2, 8, 16, 32], {
        pastLength: 1,
        mostCost: 5,
        budget: 1,
        onProgress: (done) => progress.push(done),
      });
      expect(curve.map(({ nodes }) => nodes)).to.deep.equal([1, 2, 8]);
      expect(sizes.filter((size) => size === 8)).to.have.length(2);
      expect(progress).to.deep.equal([...progress].sort((a, b) => a - b));
      expect(Math.max(...progress)).to.be.at.most(1);
    } finally {
      await model.dispose();
    }
  });

  it('finds rows exact where they are, and notices a last bit that depends on the siblings', async () => {
    const model = await openSplit(int8Options);
    try {
      expect(await measureRowExactness(model)).to.equal(true);
      expect(model.cachedLength).to.equal(0);
      const disturbed = Object.create(model, {
        verify: {
          value: async (...args: Parameters<DraftingModel['verify']>) => {
            const rows = await model.verify(...args);
            if (args[0].size > 1)
              rows.logits!.forEach((value, i) => (rows.logits![i] = value * (1 + 2 ** -23)));
            return rows;
          },
        },
      }) as DraftingModel;
      expect(await measureRowExactness(disturbed)).to.equal(false);
    } finally {
      await model.dispose();
    }
  });
});
