import { expect } from 'chai';
import { CostCurve, type CostPoint } from '../../../src/decoding/policy/costCurve.js';
import { autoTree, dynamicTree, noTree, staticTree } from '../../../src/decoding/policy/treePolicy.js';
import { staticTreeFromPaths } from '../../../src/decoding/tree/staticTree.js';
import type { TreePolicy } from '../../../src/decoding/types.js';
import { decodeAll } from '../../support/decodeAll.js';
import { proposalsOf } from '../../support/reference.js';
import { TableModel, type TableModelOptions } from '../../support/tableModel.js';

const heads = 4;
const topM = 8;
const levels = new Array<number[]>(heads).fill([0.5, 0.2, 0.1, 0.05, 0.02, 0.02, 0.01, 0.01]);
const proposals = proposalsOf(levels);

/** Measured points of a curve with a constant price of each further node. */
const linear = (plain: number, perNode: number): CostPoint[] =>
  [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64].map((nodes) => ({
    nodes,
    milliseconds: plain + (nodes - 1) * perNode,
  }));

describe('tree policies', () => {
  it('want no heads and build the root alone without trees', () => {
    const policy = noTree();
    expect(policy.wantedTopM({ nodes: 9, depth: 9 })).to.equal(0);
    expect(policy.build(5, undefined).size).to.equal(1);
  });

  it('keep to their limits, and want no heads where the limits leave the root only', () => {
    const shape = staticTreeFromPaths([[0], [1], [0, 0], [0, 0, 0]], { heads, topM });
    const all: TreePolicy[] = [
      dynamicTree({ nodes: 20, heads, topM }),
      staticTree(shape),
      autoTree({ nodes: 20, heads, topM, costs: linear(10, 0) }),
    ];
    for (const policy of all) {
      expect(policy.wantedTopM({ nodes: 1, depth: 4 })).to.equal(0);
      expect(policy.wantedTopM({ nodes: 9, depth: 0 })).to.equal(0);
      expect(policy.wantedTopM()).to.be.above(0);
      expect(policy.build(5, undefined, { nodes: 1, depth: 4 }).size).to.equal(1);
      const small = policy.build(5, proposals, { nodes: 3, depth: 1 });
      expect(small.size).to.equal(3);
      expect(Math.max(...small.depths)).to.equal(1);
      expect(policy.build(5, proposals).size).to.be.above(3);
    }
  });

  it('use no more heads than they are told to', () => {
    const tree = dynamicTree({ nodes: 64, heads: 2, topM }).build(5, proposals);
    expect(Math.max(...tree.depths)).to.equal(2);
  });

  it('refuse sizes that are no whole numbers from 1', () => {
    for (const bad of [0, 1.5, NaN, -3]) {
      expect(() => dynamicTree({ nodes: bad, heads, topM })).to.throw(RangeError, /nodes is/);
      expect(() => dynamicTree({ nodes: 4, heads: bad, topM })).to.throw(RangeError, /heads is/);
      expect(() => autoTree({ nodes: 4, heads, topM: bad, costs: linear(1, 1) })).to.throw(
        RangeError,
        /topM is/,
      );
    }
  });
});

describe('autoTree', () => {
  interface Outcome {
    /** Simulated time, prefill excluded, as a multiple of what plain decoding takes. */
    readonly time: number;
    /** Nodes per step. */
    readonly nodes: number;
    readonly steps: number;
  }

  async function outcome(
    options: TableModelOptions,
    costs: CostPoint[],
    policy: TreePolicy,
    tokens = 600,
  ): Promise<Outcome> {
    const cost = (nodes: number): number => new CostCurve(costs).at(nodes);
    const model = new TableModel({
      contextLength: 2000,
      vocabSize: 16,
      ...options,
      costs: { verify: cost, heads: 0.5 },
    });
    const { result } = await decodeAll(model, [1], { policy, maxNewTokens: tokens });
    const plain = (tokens - 1) * cost(1);
    const nodes = result.nodeCounts.reduce((sum, count) => sum + count, 0) / result.steps;
    return { time: (result.wallTime - result.prefillTime) / plain, nodes, steps: result.steps };
  }

  const auto = (costs: CostPoint[]): TreePolicy => autoTree({ nodes: 64, heads, topM, costs });
  const good = { accuracy: [0.7, 0.6, 0.5, 0.4] };

  it('verifies many nodes where they are free', async () => {
    const { nodes, time } = await outcome(good, linear(10, 0.001), auto(linear(10, 0.001)));
    expect(nodes).to.be.above(30);
    expect(time).to.be.below(0.55);
  });

  it('verifies few nodes where they are dear, and is faster than plain decoding', async () => {
    const { nodes, time } = await outcome(good, linear(6, 1.2), auto(linear(6, 1.2)));
    expect(nodes).to.be.within(1.5, 5);
    expect(time).to.be.below(0.8);
  });

  it('is at least as fast as the best fixed size, whatever the price of a node', async () => {
    for (const price of [0.02, 0.3, 1, 2.5]) {
      const costs = linear(6, price);
      const { time } = await outcome(good, costs, auto(costs));
      for (const nodes of [1, 2, 3, 4, 6, 8, 16, 32, 64]) {
        const fixed = await outcome(good, costs, dynamicTree({ nodes, heads, topM }));
        expect(time, `${price} ms a node, ${nodes} nodes`).to.be.below(fixed.time * 1.03);
      }
    }
  });

  it('finds out that the curve it was given is wrong', async () => {
    const { time, nodes } = await outcome(good, linear(6, 1.5), auto(linear(6, 0.01)), 1500);
    expect(nodes).to.be.below(8);
    expect(time).to.be.below(0.95);
  });

  it('decodes plainly when the heads know nothing, at a bounded loss', async () => {
    const costs = linear(6, 0.8);
    for (const confidence of [[0.9], [0.3], [0.01]]) {
      const hopeless = { accuracy: [0], confidence, vocabSize: 64 };
      const { time } = await outcome(hopeless, costs, auto(costs), 600);
      expect(time, `confidence ${confidence[0]}`).to.be.below(1.02);
    }
  });

  it('is not taken in by heads that promise too much', async () => {
    const costs = linear(6, 0.8);
    const boastful = { accuracy: [0.4, 0.2], confidence: [0.95, 0.95] };
    expect((await outcome(boastful, costs, auto(costs), 1000)).time).to.be.below(1.02);
  });

  describe('takes a stall for what it is', () => {
    class StallingVerification extends TableModel {
      override verify(
        ...[tree, options]: Parameters<TableModel['verify']>
      ): ReturnType<TableModel['verify']> {
        if (this.calls.length % 100 === 5) this.time += 500;
        return super.verify(tree, options);
      }
    }

    /** The first two drafts are long, as a cold start makes them: code is compiled, tables are touched for the first time. */
    class StallingDraft extends TableModel {
      private drafts = 0;
      override propose(
        ...[topM, root]: Parameters<TableModel['propose']>
      ): ReturnType<TableModel['propose']> {
        this.drafts++;
        if (this.drafts <= 2) this.time += 30;
        if (this.drafts % 100 === 50) this.time += 500;
        return super.propose(topM, root);
      }
    }

    const costs = linear(6, 0.3);
    const curve = new CostCurve(costs);
    const steps = async (Model: typeof TableModel): Promise<number> => {
      const model = new Model({
        ...good,
        contextLength: 2000,
        costs: { verify: (nodes) => curve.at(nodes), heads: 0.5 },
      });
      return (await decodeAll(model, [1], { policy: auto(costs), maxNewTokens: 600 })).result.steps;
    };

    for (const [name, Model] of Object.entries({ StallingVerification, StallingDraft })) {
      it(name, async () => {
        expect(await steps(Model)).to.be.below(1.02 * (await steps(TableModel)));
      });
    }
  });

  it('is a function of what it observed', async () => {
    const costs = linear(6, 0.8);
    const run = (): Promise<Outcome> => outcome(good, costs, auto(costs), 200);
    expect(await run()).to.deep.equal(await run());
  });
});
