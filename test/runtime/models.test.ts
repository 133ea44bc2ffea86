import { expect } from 'chai';
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ModelError, RuntimeFailure } from '../../src/util/errors.js';
import { NextTokenDistribution } from '../../src/decoding/distribution.js';
import type { DraftingModel, VerifiedRows } from '../../src/decoding/types.js';
import { openModel, type OpenOptions } from '../../src/runtime/index.js';
import { BIAS_BUCKET } from '../../src/runtime/cuda/bindingPlan.js';
import { CAPACITY_STEP } from '../../src/runtime/cpu/splitCache.js';
import {
  distance,
  file,
  float16Options,
  int8Options,
  openShared,
  openSplit,
  pathTo,
  randomIds,
  randomTree,
  read,
  shape,
  splitOptions,
  sharedOptions,
  tree,
} from './tiny.js';

const paths = [
  { name: 'split layout, onnxruntime-node', open: openSplit, options: splitOptions, boundary: CAPACITY_STEP },
  {
    name: 'split layout, runs padded to four rows',
    open: (options: Partial<OpenOptions> = {}) => openSplit({ leastRows: 4, ...options }),
    options: splitOptions,
    boundary: CAPACITY_STEP,
  },
  {
    name: 'shared layout, C API on CPU memory',
    open: openShared,
    options: sharedOptions,
    boundary: BIAS_BUCKET,
  },
] as const;

/** What a row of float32 logits may differ by when the shapes of the run differ. */
const TOLERANCE = 1e-4;
const logits = { logits: true };

/** Row `row` of [rows, vocabSize] logits. */
function row({ logits: all, vocabSize }: VerifiedRows, index: number): Float32Array {
  return all!.subarray(index * vocabSize, (index + 1) * vocabSize);
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

for (const { name, open, options, boundary } of paths) {
  describe(`runtime: ${name}`, () => {
    let model: DraftingModel;
    let fresh: DraftingModel;

    before(async () => {
      model = await open();
      fresh = await open();
    });
    after(async () => {
      await model.dispose();
      await fresh.dispose();
    });
    beforeEach(() => {
      model.truncate(0);
      fresh.truncate(0);
    });

    /** The last row's result after reading `ids` afresh. */
    const causal = (ids: readonly number[]): Promise<VerifiedRows> => {
      fresh.truncate(0);
      return read(fresh, ids, logits);
    };

    it('says what it holds', () => {
      expect(model.vocabSize).to.equal(512);
      expect(model.contextLength).to.equal(512);
      expect(model.headCount).to.equal(4);
      expect(model.maxTopM).to.equal(64);
      expect(model.cachedLength).to.equal(0);
    });

    it('gives each row of a tree what its path gives when read in order', async () => {
      const prompt = randomIds(37, 1);
      await read(model, prompt, { logits: false });
      const nodes = randomTree(16, 2);
      const result = await model.verify(nodes, logits);
      expect(model.cachedLength).to.equal(prompt.length);
      for (let index = 0; index < nodes.size; index++) {
        const path = pathTo(nodes, index).map((at) => nodes.tokens[at]);
        const alone = await causal([...prompt, ...path]);
        expect(result.nextTokens[index]).to.equal(alone.nextTokens[0]);
        expect(distance(row(result, index), row(alone, 0))).to.be.below(TOLERANCE);
      }
    });

    it('gives next tokens that are the argmax of the logits, and no logits unasked', async () => {
      await read(model, randomIds(5, 3), { logits: false });
      const nodes = randomTree(6, 4);
      const result = await model.verify(nodes, logits);
      for (let index = 0; index < nodes.size; index++) {
        const scores = row(result, index);
        expect(result.nextTokens[index]).to.equal(scores.indexOf(Math.max(...scores)));
      }
      const silent = await model.verify(nodes, { logits: false });
      expect(silent.logits).to.equal(undefined);
      expect(silent.nextTokens).to.deep.equal(result.nextTokens);
    });

    it('gives logits row by row, as long as it did not run again', async () => {
      await read(model, randomIds(5, 3), { logits: false });
      const nodes = randomTree(6, 9, 3);
      const all = await model.verify(nodes, logits);
      const rows = await model.verify(nodes, { logits: 'by row' });
      const rowOf = (index: number): Float32Array =>
        rows.logitsOf ? rows.logitsOf(index) : row(rows, index);
      for (const index of [4, 0, 5]) {
        expect(distance(rowOf(index), row(all, index))).to.be.below(TOLERANCE);
        expect(rowOf(index)).to.have.length(model.vocabSize);
      }
      await model.verify(nodes, { logits: false });
      if (rows.logitsOf) expect(() => rows.logitsOf!(0)).to.throw(RuntimeFailure, 'ran again');
      const first = await read(fresh, randomIds(9, 8), { logits: 'by row' });
      const loaded = new NextTokenDistribution().load(first, 0, 1);
      const [best] = first.nextTokens;
      for (let token = 0; token < model.vocabSize; token++)
        expect(loaded.probability(best)).to.be.at.least(loaded.probability(token));
    });

    it('goes on from kept rows as if they had been read in order', async () => {
      const text = randomIds(20, 5);
      await read(model, text, { logits: false });
      for (let step = 0; step < 12; step++) {
        const nodes = randomTree(1 + ((step * 7) % 20), 100 + step, 4);
        await model.verify(nodes, { logits: false });
        const kept = pathTo(nodes, nodes.size - 1);
        await model.keep(kept);
        text.push(...kept.map((at) => nodes.tokens[at]));
        expect(model.cachedLength).to.equal(text.length);
      }
      const next = await model.verify(tree([7], [-1]), logits);
      const alone = await causal([...text, 7]);
      expect(distance(row(next, 0), row(alone, 0))).to.be.below(TOLERANCE);
    });

    it('keeps rows that lie apart, in place, and partly in place', async () => {
      for (const kept of [[0], [0, 1, 2], [0, 3, 5], [0, 1, 4]]) {
        const prompt = randomIds(9, 6);
        model.truncate(0);
        await read(model, prompt, { logits: false });
        const nodes = tree([11, 12, 13, 14, 15, 16], [-1, 0, 1, 0, 1, 3]);
        await model.verify(nodes, { logits: false });
        await model.keep(kept);
        const next = await model.verify(tree([99], [-1]), logits);
        const alone = await causal([...prompt, ...kept.map((at) => nodes.tokens[at]), 99]);
        expect(distance(row(next, 0), row(alone, 0))).to.be.below(TOLERANCE);
      }
    });

    it('is right on both sides of a padding boundary', async () => {
      for (const length of [boundary - 2, boundary - 1, boundary, boundary + 1]) {
        const prompt = randomIds(length, 7);
        model.truncate(0);
        await read(model, prompt.slice(0, length - 1), { logits: false });
        const nodes = tree([prompt[length - 1], 5, 6], [-1, 0, 0]);
        const result = await model.verify(nodes, logits);
        await model.keep([0, 2]);
        const next = await model.verify(tree([8], [-1]), logits);
        expect(distance(row(result, 0), row(await causal(prompt), 0))).to.be.below(TOLERANCE);
        expect(distance(row(next, 0), row(await causal([...prompt, 6, 8]), 0))).to.be.below(TOLERANCE);
      }
    });

    it('reads a prompt in pieces as in one', async () => {
      const prompt = randomIds(150, 8);
      const whole = await causal(prompt);
      const pieces = await open({ prefillRows: 32 });
      try {
        const result = await read(pieces, prompt, logits);
        expect(distance(row(result, 0), row(whole, 0))).to.be.below(TOLERANCE);
        pieces.truncate(0);
        await read(pieces, prompt.slice(0, 1), { logits: false });
        await read(pieces, prompt.slice(1, 90), { logits: false });
        const last = await read(pieces, prompt.slice(90), logits);
        expect(distance(row(last, 0), row(whole, 0))).to.be.below(TOLERANCE);
      } finally {
        await pieces.dispose();
      }
    });

    it('forgets on truncation: reading on equals a fresh start', async () => {
      const long = randomIds(400, 9);
      const other = randomIds(30, 10);
      for (const length of [0, 1, 63, 64, 130, 399]) {
        model.truncate(0);
        await read(model, long, { logits: false });
        model.truncate(length);
        expect(model.cachedLength).to.equal(length);
        const result = await read(model, other, logits);
        expect(
          distance(row(result, 0), row(await causal([...long.slice(0, length), ...other]), 0)),
        ).to.be.below(TOLERANCE);
      }
    });

    it('runs the heads on the row that chose the next root', async () => {
      const prompt = randomIds(25, 11);
      await read(model, prompt, { logits: false });
      const nodes = randomTree(10, 12);
      await model.verify(nodes, { logits: false });
      const kept = pathTo(nodes, 9);
      await model.keep(kept);
      const drafted = await model.propose(7, 1);
      await causal([...prompt, ...kept.map((at) => nodes.tokens[at])]);
      const alone = await fresh.propose(7, 1);
      expect(drafted.heads).to.equal(4);
      expect(drafted.topM).to.equal(7);
      expect(drafted.ids).to.deep.equal(alone.ids);
      expect(distance(drafted.probabilities, alone.probabilities)).to.be.below(TOLERANCE);
      for (let head = 0; head < 4; head++) {
        const list = [...drafted.probabilities.subarray(head * 7, head * 7 + 7)];
        expect(list).to.deep.equal([...list].sort((a, b) => b - a));
      }
    });

    it('fills the context to its last position, and says when it is full', async () => {
      await read(model, randomIds(shape.contextLength - 1, 13), { logits: false });
      await model.verify(tree([1], [-1]), logits);
      const deep = await rejection(model.verify(tree([1, 2], [-1, 0]), logits));
      expect(deep).to.be.instanceOf(RangeError).with.property('message').that.includes('512');
      await model.keep([0]).catch(() => undefined);
      model.truncate(500);
      for (const count of [13, 0]) {
        const refused = await rejection(model.prefill(randomIds(count, 1), logits));
        expect(refused).to.be.instanceOf(RangeError);
        expect(refused.message).to.include('1 to 12 tokens').and.include(`not ${count}`);
      }
      model.truncate(0);
      const most = model.promptRows!;
      const beyond = await rejection(model.prefill(randomIds(most + 1, 1), logits));
      expect(beyond)
        .to.be.instanceOf(RangeError)
        .with.property('message')
        .that.includes(`1 to ${most} tokens`);
    });

    it('refuses calls out of order and arguments out of range', async () => {
      expect(await rejection(model.keep([0]))).to.be.instanceOf(RuntimeFailure);
      expect(await rejection(model.propose(1, 0))).to.be.instanceOf(RuntimeFailure);
      await read(model, [1, 2, 3], { logits: false });
      expect(() => model.truncate(4)).to.throw(RangeError, '3 positions');
      expect(() => model.truncate(-1)).to.throw(RangeError);
      expect(await rejection(model.propose(65, 0))).to.be.instanceOf(RangeError);
      expect(await rejection(model.propose(0, 0))).to.be.instanceOf(RangeError);
      for (const root of [-1, 512, 1.5, NaN]) {
        const error = await rejection(model.propose(1, root));
        expect(error).to.be.instanceOf(RangeError);
        expect(error.message).to.include('from 0 to 511').and.include(`not ${root}`);
      }
      await model.verify(tree([1, 2], [-1, 0]), { logits: false });
      expect(await rejection(model.keep([0, 2]))).to.be.instanceOf(RangeError);
      expect(await rejection(model.keep([]))).to.be.instanceOf(RangeError);
      const overlapping = [model.verify(tree([1], [-1]), logits), model.verify(tree([1], [-1]), logits)];
      const outcomes = await Promise.allSettled(overlapping);
      expect(outcomes.map(({ status }) => status)).to.deep.equal(['fulfilled', 'rejected']);
    });

    it('lets a run end before it goes', async () => {
      const doomed = await open();
      const run = doomed.prefill(randomIds(60, 1), { logits: false });
      await doomed.dispose();
      await doomed.dispose();
      expect((await run).rows).to.equal(1);
    });

    it('works without heads', async () => {
      const plain = await open({ heads: undefined });
      try {
        expect(plain.headCount).to.equal(0);
        await plain.prefill([1, 2], { logits: false });
        expect(await rejection(plain.propose(1, 0))).to.be.instanceOf(RuntimeFailure);
      } finally {
        await plain.dispose();
      }
    });

    describe('files', () => {
      let folder: string;
      const broken = (path: string): Partial<OpenOptions> => ({ backbone: { ...options.backbone, path } });

      before(async () => {
        folder = await mkdtemp(join(tmpdir(), 'medusa-runtime-'));
      });
      after(() => rm(folder, { recursive: true }));

      const expectModelError = async (overrides: Partial<OpenOptions>, path: string): Promise<void> => {
        const error = await rejection(open(overrides));
        expect(error).to.be.instanceOf(ModelError);
        expect(error.message).to.include(path);
      };

      it('names a missing file', () => expectModelError(broken('/nowhere/b.onnx'), '/nowhere/b.onnx'));

      it('names a file that is no graph', async () => {
        const path = join(folder, 'text.onnx');
        await writeFile(path, 'not a graph');
        await expectModelError(broken(path), path);
      });

      it('names a truncated graph', async () => {
        const path = join(folder, 'half.onnx');
        await writeFile(path, (await readFile(options.backbone.path)).subarray(0, 5000));
        await expectModelError(broken(path), path);
      });

      it('names a graph whose weights are missing or cut short', async () => {
        const path = join(folder, options.backbone.path.split('/').at(-1)!);
        await copyFile(options.backbone.path, path);
        await expectModelError(broken(path), path);
        await copyFile(`${options.backbone.path}.data`, `${path}.data`);
        await truncate(`${path}.data`, 100_000);
        await expectModelError(broken(path), path);
      });

      it('names a graph of another kind', async () => {
        const heads = file('heads.tiny.fp32.onnx');
        await expectModelError(broken(heads), 'lacks input input_ids');
        const wrong = { ...splitOptions.heads!, path: file('keep.fp32.onnx') };
        await expectModelError({ heads: wrong }, wrong.path);
      });

      it('names the graph and the shapes when a run fails', async () => {
        const other = { ...shape, kvHeads: 1 };
        const wrong = await open({ shape: other }).catch((error: unknown) => error as Error);
        const error = wrong instanceof Error ? wrong : await rejection(wrong.prefill([1], logits));
        expect(error.message).to.include(options.backbone.path);
        expect(error).to.be.instanceOf(RuntimeFailure);
        if (!(wrong instanceof Error)) await wrong.dispose();
      });
    });
  });
}

describe('runtime: another number of threads', () => {
  it('goes on from what is cached, with the same results', async () => {
    for (const options of [splitOptions, int8Options]) {
      const [model, same] = await Promise.all([openModel(options), openModel(options)]);
      try {
        const proposals: unknown[] = [];
        for (const each of [model, same]) {
          await read(each, randomIds(90, 3), { logits: false });
          if (each === model) await each.useThreads!(2);
          proposals.push(await each.propose(8, 5));
          await each.verify(randomTree(5, 8), { logits: false });
          await each.keep([0]);
          if (each === model) await each.useThreads!(1);
        }
        expect(proposals[0]).to.deep.equal(proposals[1]);
        const nodes = randomTree(9, 4);
        const rows = await Promise.all([model, same].map((each) => each.verify(nodes, { logits: true })));
        expect(rows[0]).to.deep.equal(rows[1]);
      } finally {
        await Promise.all([model.dispose(), same.dispose()]);
      }
    }
  });
});

describe('runtime: both paths', () => {
  it('agree row by row over a long text with trees of many sizes', async () => {
    const split = await openSplit();
    const shared = await openShared();
    try {
      const prompt = randomIds(200, 21);
      const results = await Promise.all([split, shared].map((model) => read(model, prompt, logits)));
      expect(results[0].nextTokens).to.deep.equal(results[1].nextTokens);
      for (let step = 0; step < 40; step++) {
        const nodes = randomTree(1 + ((step * 13) % 64), 300 + step, 6);
        const kept = pathTo(nodes, (step * 5) % nodes.size);
        const rows: VerifiedRows[] = [];
        for (const model of [split, shared]) {
          rows.push(await model.verify(nodes, logits));
          await model.keep(kept);
        }
        expect(rows[0].nextTokens).to.deep.equal(rows[1].nextTokens);
        expect(distance(rows[0].logits!, rows[1].logits!)).to.be.below(TOLERANCE);
        const [a, b] = [await split.propose(5, 1), await shared.propose(5, 1)];
        expect(a.ids).to.deep.equal(b.ids);
        expect(distance(a.probabilities, b.probabilities)).to.be.below(TOLERANCE);
      }
      expect(split.cachedLength).to.equal(shared.cachedLength).and.to.be.above(250);
    } finally {
      await split.dispose();
      await shared.dispose();
    }
  });

  it('agree within float16 on float16 graphs', async () => {
    const split = await openSplit();
    const half = await openShared(float16Options);
    try {
      for (let step = 0; step < 6; step++) {
        for (const model of [split, half]) {
          model.truncate(0);
          await read(model, randomIds(40 + 60 * step, step), { logits: false });
        }
        const nodes = randomTree(20, 50 + step, 5);
        const kept = pathTo(nodes, 19);
        const [a, b] = [await split.verify(nodes, logits), await half.verify(nodes, logits)];
        expect(distance(a.logits!, b.logits!)).to.be.within(1e-6, 0.02);
        await split.keep(kept);
        await half.keep(kept);
        const [p, q] = [await split.propose(3, 1), await half.propose(3, 1)];
        expect(distance(p.probabilities, q.probabilities)).to.be.below(0.002);
        const next = tree([3, 4], [-1, 0]);
        const [c, d] = [await split.verify(next, logits), await half.verify(next, logits)];
        expect(distance(c.logits!, d.logits!)).to.be.below(0.02);
      }
    } finally {
      await split.dispose();
      await half.dispose();
    }
  });
});

describe('runtime: int8 on the CPU', () => {
  it('gives a row the same bits in any tree, behind any padding, however the prompt was cut', async () => {
    const inTree = await openSplit(int8Options);
    const alone = await openSplit({ ...int8Options, prefillRows: 16 });
    try {
      const prompt = randomIds(100, 31);
      for (const [round, size] of [1, 2, 6, 13, 40].entries()) {
        for (const model of [inTree, alone]) {
          model.truncate(0);
          await read(model, prompt, { logits: false });
        }
        const nodes = randomTree(size, 60 + round);
        const result = await inTree.verify(nodes, logits);
        const path = pathTo(nodes, size - 1);
        let step: VerifiedRows | undefined;
        for (const at of path) {
          step = await alone.verify(tree([nodes.tokens[at]], [-1]), logits);
          await alone.keep([0]);
        }
        expect(distance(row(result, size - 1), row(step!, 0))).to.equal(0);
      }
      // Reading much and forgetting it leaves the cache laid out for more positions than a fresh one.
      const roomy = [...prompt, ...randomIds(90, 32)];
      inTree.truncate(0);
      await read(inTree, roomy, { logits: false });
      inTree.truncate(prompt.length);
      alone.truncate(prompt.length);
      const nodes = randomTree(5, 9);
      const [a, b] = [await inTree.verify(nodes, logits), await alone.verify(nodes, logits)];
      expect(distance(a.logits!, b.logits!)).to.equal(0);
    } finally {
      await inTree.dispose();
      await alone.dispose();
    }
  });
});
