import { expect } from 'chai';
import fc from 'fast-check';
import { bestStaticTreeInHindsight, oracleTokensPerStep, rankPath } from '../../src/decoding/oracle.js';
import { dynamicTree, staticTree } from '../../src/decoding/policy/treePolicy.js';
import { staticTreePaths } from '../../src/decoding/tree/staticTree.js';
import { decodeAll } from '../support/decodeAll.js';
import { proposalsOf } from '../support/reference.js';
import { TableModel } from '../support/tableModel.js';

describe('rankPath', () => {
  const proposals = proposalsOf([
    [0.5, 0.3],
    [0.5, 0.3],
    [0.5, 0.3],
  ]);

  it('is the ranks of the true continuation, up to the first token that was not listed', () => {
    expect(rankPath(proposals, [101, 200, 301, 7])).to.deep.equal([1, 0, 1]);
    expect(rankPath(proposals, [101, 999, 300])).to.deep.equal([1]);
    expect(rankPath(proposals, [201])).to.deep.equal([]);
    expect(rankPath(proposals, [100])).to.deep.equal([0]);
    expect(rankPath(proposals, [])).to.deep.equal([]);
  });
});

describe('bestStaticTreeInHindsight', () => {
  const paths = fc.array(fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 3 }), {
    minLength: 1,
    maxLength: 12,
  });

  /** Nodes of `shape` on the way of `path`. */
  const accepted = (shape: number[][], path: number[]): number =>
    shape.filter((node) => node.every((rank, level) => rank === path[level])).length;

  it('accepts on the recorded paths what it says', () => {
    fc.assert(
      fc.property(paths, fc.integer({ min: 1, max: 8 }), (recorded, nodes) => {
        const { shape, tokensPerStep } = bestStaticTreeInHindsight(recorded, nodes);
        const tree = shape ? staticTreePaths(shape) : [];
        expect(tree.length).to.be.at.most(nodes - 1);
        const total = recorded.reduce((sum, path) => sum + 1 + accepted(tree, path), 0);
        expect(tokensPerStep).to.be.closeTo(total / recorded.length, 1e-12);
      }),
    );
  });

  it('is never beaten by another tree of its size', () => {
    /** All trees of ranks 0..2 with `left` more nodes, as sets of paths. */
    const best = (recorded: number[][], tree: number[][], border: number[][], left: number): number => {
      const now = recorded.reduce((sum, path) => sum + 1 + accepted(tree, path), 0) / recorded.length;
      if (left === 0) return now;
      const next = border.map((node, i) =>
        best(
          recorded,
          [...tree, node],
          [...border.slice(i + 1), ...[0, 1, 2].map((rank) => [...node, rank])],
          left - 1,
        ),
      );
      return Math.max(now, ...next);
    };
    fc.assert(
      fc.property(paths, fc.integer({ min: 1, max: 4 }), (recorded, nodes) => {
        const { tokensPerStep } = bestStaticTreeInHindsight(recorded, nodes);
        expect(tokensPerStep).to.be.closeTo(best(recorded, [], [[0], [1], [2]], nodes - 1), 1e-12);
      }),
      { numRuns: 60 },
    );
  });

  it('and the oracle bound what static and dynamic trees reach', async () => {
    const model = (): TableModel =>
      new TableModel({ seed: 5, contextLength: 600, accuracy: [0.6, 0.5, 0.4] });
    const dynamic = await decodeAll(model(), [1], {
      policy: dynamicTree({ nodes: 12, heads: 4, topM: 8 }),
      maxNewTokens: 400,
    });
    const recorded = dynamic.steps.slice(1, -5).map((step, i) => {
      const position = dynamic.steps.slice(0, i + 1).reduce((sum, each) => sum + each.tokens.length, 0);
      return rankPath(step.proposals!, dynamic.result.tokens.slice(position));
    });
    const { shape, tokensPerStep } = bestStaticTreeInHindsight(recorded, 12);
    const oracle = oracleTokensPerStep(recorded);
    expect(dynamic.result.tokensPerStep).to.be.below(oracle);
    expect(tokensPerStep).to.be.below(oracle);
    const fixed = await decodeAll(model(), [1], { policy: staticTree(shape!), maxNewTokens: 400 });
    expect(fixed.result.tokensPerStep).to.be.within(0.8 * tokensPerStep, 1.2 * tokensPerStep);
    expect(oracleTokensPerStep([])).to.equal(0);
    expect(bestStaticTreeInHindsight([], 5)).to.deep.equal({ shape: undefined, tokensPerStep: 0 });
  });
});
