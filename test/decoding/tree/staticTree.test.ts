import { expect } from 'chai';
import fc from 'fast-check';
import { buildTree } from '../../../src/decoding/tree/candidateTree.js';
import {
  fillStaticTree,
  searchStaticTree,
  staticTreeFromPaths,
  staticTreePaths,
  sizeWithin,
  TreeFormatError,
} from '../../../src/decoding/tree/staticTree.js';
import { proposalsOf } from '../../support/reference.js';
import { checkTree } from '../../support/tableModel.js';

const bounds = { heads: 4, topM: 10 };

/** The first nodes of Medusa's tree for Vicuna 7B, in the order of their file. */
const medusaPaths = [
  [0],
  [0, 0],
  [1],
  [0, 1],
  [2],
  [0, 0, 0],
  [1, 0],
  [0, 2],
  [3],
  [0, 3],
  [2, 0],
  [0, 0, 1],
];

const accuracies = fc.array(
  fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 6 }),
  { minLength: 1, maxLength: 4 },
);

describe('staticTreeFromPaths', () => {
  it('sorts the paths of a tree file into rows, parents first', () => {
    const shape = staticTreeFromPaths(medusaPaths, bounds);
    expect(shape.size).to.equal(13);
    expect(shape.depth).to.equal(3);
    expect(shape.topM).to.equal(4);
    expect([...shape.depths]).to.deep.equal([0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3]);
    expect([...shape.parents]).to.deep.equal([-1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 5, 5]);
    expect([...shape.ranks]).to.deep.equal([-1, 0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 0, 1]);
  });

  it('takes the ranks of a path in any combination, gaps included', () => {
    const shape = staticTreeFromPaths([[7], [7, 9], [2]], bounds);
    expect(staticTreePaths(shape)).to.deep.equal([[2], [7], [7, 9]]);
    expect(shape.topM).to.equal(10);
  });

  it('reads back the paths it was made from', () => {
    fc.assert(
      fc.property(accuracies, fc.integer({ min: 2, max: 40 }), (levels, nodes) => {
        const shape = searchStaticTree(levels, { nodes, depth: 4 }, 10);
        expect(staticTreeFromPaths(staticTreePaths(shape), bounds)).to.deep.equal(shape);
      }),
    );
  });

  const malformed: [string, unknown, RegExp][] = [
    ['no array', { a: [[0]] }, /array of paths.*\{"a"/],
    ['nothing', undefined, /array of paths/],
    ['no paths', [], /no paths/],
    ['a path that is no array', [[0], 3], /Path 3 must be a non-empty array/],
    ['an empty path', [[0], []], /Path \[\] must be/],
    ['a fractional rank', [[0], [0.5]], /Path \[0\.5\] holds 0\.5; a rank is a whole number/],
    ['a negative rank', [[0], [0, -1]], /Path \[0,-1\] holds -1/],
    ['a rank in text', [['0']], /holds "0"/],
    ['a rank of null', [[null]], /holds null/],
    ['a rank beyond m', [[0], [10]], /Path \[10\] holds rank 10.*top 10.*0 to 9/],
    ['a path deeper than the heads', [[0], [0, 0, 0, 0, 0]], /5 deep, but 4 heads/],
    [
      'an orphan',
      [[0], [1, 0]],
      /Path \[1,0\] has no parent: \[1\] is not in the tree. Add \[1\] or remove \[1,0\]/,
    ],
    ['a duplicate', [[0], [1], [0]], /Path \[0\] occurs twice/],
  ];
  for (const [what, paths, message] of malformed) {
    it(`refuses ${what}`, () => {
      expect(() => staticTreeFromPaths(paths, bounds)).to.throw(TreeFormatError, message);
    });
  }
});

describe('searchStaticTree', () => {
  it("is the dynamic tree's search on constant marginals", () => {
    fc.assert(
      fc.property(accuracies, fc.integer({ min: 2, max: 40 }), (levels, nodes) => {
        const width = Math.min(...levels.map((level) => level.length));
        const sorted = levels.map((level) =>
          level
            .map(Math.fround)
            .sort((a, b) => b - a)
            .slice(0, width),
        );
        const shape = searchStaticTree(sorted, { nodes, depth: 4 }, 10);
        const tree = buildTree(0, proposalsOf(sorted), { nodes, depth: 4 });
        expect([...shape.parents]).to.deep.equal([...tree.parents]);
        expect([...shape.ranks]).to.deep.equal([...tree.ranks]);
      }),
    );
  });

  it('prefers a rank that is right more often, wherever it stands', () => {
    const shape = searchStaticTree([[0.1, 0.5, 0.2], [0.9]], { nodes: 4, depth: 4 }, 10);
    expect(staticTreePaths(shape)).to.deep.equal([[1], [2], [1, 0]]);
  });

  it('respects the candidates and the heads that are used', () => {
    const levels = [[0.5, 0.3, 0.2], [0.5, 0.4], [0.9]];
    expect(staticTreePaths(searchStaticTree(levels, { nodes: 99, depth: 2 }, 1))).to.deep.equal([
      [0],
      [0, 0],
    ]);
    expect(searchStaticTree(levels, { nodes: 99, depth: 3 }, 9).size).to.equal(1 + 3 + 6 + 6);
    expect(searchStaticTree(levels, { nodes: 1, depth: 3 }, 9).size).to.equal(1);
    expect(searchStaticTree([], { nodes: 9, depth: 3 }, 9).size).to.equal(1);
  });

  it('refuses accuracies that are no probabilities', () => {
    expect(() => searchStaticTree([[0.5], [NaN]], { nodes: 4, depth: 4 }, 10)).to.throw(
      RangeError,
      /head 1 at rank 0 is NaN/,
    );
  });
});

describe('fillStaticTree', () => {
  const levels = [
    [0.5, 0.25, 0.125, 0.0625],
    [0.5, 0.25, 0.125, 0.0625],
    [0.5, 0.25, 0.125, 0.0625],
  ];

  it('fills in the tokens and the probabilities of the proposals', () => {
    const tree = fillStaticTree(staticTreeFromPaths([[0], [1], [1, 3]], bounds), 42, proposalsOf(levels));
    checkTree(tree);
    expect([...tree.tokens]).to.deep.equal([42, 100, 101, 203]);
    expect([...tree.probabilities]).to.deep.equal([1, 0.5, 0.25, 0.25 * 0.0625]);
  });

  it('leaves out what limits do not allow', () => {
    const shape = staticTreeFromPaths(medusaPaths, bounds);
    const fill = (nodes: number, depth: number): number =>
      fillStaticTree(shape, 42, proposalsOf(levels), { nodes, depth }).size;
    expect(fill(99, 99)).to.equal(13);
    expect(fill(99, 2)).to.equal(11);
    expect(fill(99, 1)).to.equal(5);
    expect(fill(99, 0)).to.equal(1);
    expect(fill(3, 9)).to.equal(3);
    expect(sizeWithin(shape, { nodes: 1, depth: 9 })).to.equal(1);
    checkTree(fillStaticTree(shape, 42, proposalsOf(levels), { nodes: 7, depth: 9 }));
  });

  it('refuses proposals that do not reach as far as the tree', () => {
    const shape = staticTreeFromPaths([[0], [0, 0], [0, 0, 5]], bounds);
    expect(() => fillStaticTree(shape, 0, proposalsOf(levels))).to.throw(
      RangeError,
      /3 heads of 6 .* 3 of 4/,
    );
  });
});
