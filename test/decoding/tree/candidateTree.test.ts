import { expect } from 'chai';
import fc from 'fast-check';
import {
  buildTree,
  CandidateTreeBuilder,
  findChild,
  pathTo,
  rootTree,
} from '../../../src/decoding/tree/candidateTree.js';
import { greedyAcceptance } from '../../../src/decoding/acceptance.js';
import { fillTreeBias } from '../../../src/decoding/tree/treeMask.js';
import type { CandidateTree } from '../../../src/decoding/types.js';
import { allPaths, proposalsOf, softmax } from '../../support/reference.js';
import { checkTree } from '../../support/tableModel.js';

/** The reference's flat index of each row but the root's: offset 0, m, m + m^2, ... plus the ranks in base m. */
function flatIndices(tree: CandidateTree, m: number): number[] {
  const index = (row: number): number =>
    row === 0 ? -1 : (index(tree.parents[row]) + 1) * m + tree.ranks[row];
  return Array.from({ length: tree.size - 1 }, (_, i) => index(i + 1));
}

function rankPaths(tree: CandidateTree): number[][] {
  return Array.from({ length: tree.size }, (_, row) =>
    pathTo(tree, row)
      .slice(1)
      .map((at) => tree.ranks[at]),
  );
}

const descending = (values: number[]): number[] => values.map(Math.fround).sort((a, b) => b - a);

/** Marginals [K][m] from a generator of single probabilities. */
function marginalsOf(probability: fc.Arbitrary<number>): fc.Arbitrary<number[][]> {
  return fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 5 })).chain(([heads, m]) =>
    fc.array(fc.array(probability, { minLength: m, maxLength: m }).map(descending), {
      minLength: heads,
      maxLength: heads,
    }),
  );
}

/** Real softmaxes, and marginals full of ties, zeros and ones. */
const marginals = fc.oneof(
  marginalsOf(fc.double({ min: 0, max: 1, noNaN: true })),
  marginalsOf(fc.constantFrom(0, 0.125, 0.25, 0.5, 1)),
  marginalsOf(fc.constantFrom(0, 0.3, 0.3333333, 0.1, 1e-20, 1e-38)),
);

describe('buildTree', () => {
  it('builds, masks and accepts the tree that its docstring draws', () => {
    const [A, B, C, D, E, F, G, H] = [65, 66, 67, 68, 69, 70, 71, 72];
    const ids = Int32Array.of(B, C, D, E);
    const proposals = { heads: 2, topM: 2, ids, probabilities: Float32Array.of(0.6, 0.3, 0.5, 0.2) };
    const tree = buildTree(A, proposals, { nodes: 5, depth: 2 });
    expect([...tree.tokens]).to.deep.equal([A, B, C, D, D]);
    expect([...tree.parents]).to.deep.equal([-1, 0, 0, 1, 2]);
    expect([...tree.depths]).to.deep.equal([0, 1, 1, 2, 2]);
    expect([...tree.ranks]).to.deep.equal([-1, 0, 1, 0, 0]);
    expect([...tree.probabilities].map((each) => each.toFixed(2)).join()).to.equal(
      '1.00,0.60,0.30,0.30,0.15',
    );
    const bias = new Float32Array(25);
    fillTreeBias(bias, tree.parents, 5, { rowLength: 5, past: 0, treeColumn: 0, closed: -1 });
    const rows = [0, 1, 2, 3, 4].map((row) => [...bias.subarray(5 * row, 5 * row + 5)]);
    const drawn = rows.map((row) => row.map((value) => (value === 0 ? '1' : '.')).join(' '));
    expect(drawn).to.deep.equal(['1 . . . .', '1 1 . . .', '1 . 1 . .', '1 1 . 1 .', '1 . 1 . 1']);
    const accept = (first: number): unknown =>
      greedyAcceptance().accept(tree, {
        rows: 5,
        nextTokens: Int32Array.of(first, D, E, F, G),
        vocabSize: 99,
      });
    expect(accept(B)).to.deep.equal({ rows: [0, 1, 3], bonus: F });
    expect(accept(H)).to.deep.equal({ rows: [0], bonus: H });
  });

  it('solves the worked example of the specification', () => {
    const logits = [
      [2, 1, -0.5],
      [1.5, 1.1, -1],
      [0.9, 0.2, -0.3],
      [0.4, 0.3, 0],
    ];
    const ids = [3, 5, 1, 2, 7, 4, 6, 0, 3, 1, 2, 5];
    const probabilities = logits.flatMap((level) => softmax(level));
    const proposals = {
      heads: 4,
      topM: 3,
      ids: Int32Array.from(ids),
      probabilities: Float32Array.from(probabilities),
    };
    const tree = buildTree(4, proposals, { nodes: 10, depth: 4 });
    expect(flatIndices(tree, 3)).to.deep.equal([0, 1, 3, 4, 6, 7, 12, 13, 15]);
    expect([...tree.depths]).to.deep.equal([0, 1, 1, 2, 2, 2, 2, 3, 3, 3]);
    expect([...tree.tokens]).to.deep.equal([4, 3, 5, 2, 7, 2, 7, 6, 0, 6]);
    const leaves = [5, 6, 7, 8, 9].map((row) => pathTo(tree, row));
    expect(leaves).to.deep.equal([
      [0, 2, 5],
      [0, 2, 6],
      [0, 1, 3, 7],
      [0, 1, 3, 8],
      [0, 1, 4, 9],
    ]);
  });

  it('equals brute force over all products, in set, order and probabilities, ties included', () => {
    fc.assert(
      fc.property(marginals, fc.integer({ min: 1, max: 80 }), (levels, nodes) => {
        const tree = buildTree(7, proposalsOf(levels), { nodes, depth: levels.length });
        checkTree(tree);
        const best = allPaths(levels).slice(0, nodes);
        const expected = best.sort((a, b) => a.flat - b.flat);
        expect(rankPaths(tree)).to.deep.equal(expected.map((path) => path.ranks));
        expect([...tree.probabilities]).to.deep.equal(expected.map((path) => path.probability));
      }),
      { numRuns: 3000 },
    );
  });

  it('agrees with brute force at the sizes of the paper', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.double({ min: -6, max: 6, noNaN: true }), { minLength: 12, maxLength: 12 }), {
          minLength: 4,
          maxLength: 4,
        }),
        (logits) => {
          const levels = logits.map((level) => descending(softmax(level)));
          const tree = buildTree(7, proposalsOf(levels), { nodes: 64, depth: 4 });
          const best = allPaths(levels).slice(0, 64);
          expect(flatIndices(tree, 12)).to.deep.equal(
            best
              .slice(1)
              .map((path) => path.flat - 1)
              .sort((a, b) => a - b),
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  it('names the token of each node after its head and rank', () => {
    fc.assert(
      fc.property(marginals, fc.integer({ min: 1, max: 40 }), (levels, nodes) => {
        const tree = buildTree(7, proposalsOf(levels), { nodes, depth: levels.length });
        for (let row = 1; row < tree.size; row++) {
          expect(tree.tokens[row]).to.equal(100 * tree.depths[row] + tree.ranks[row]);
        }
      }),
    );
  });

  it('is prefix-closed when a head saturates at 1', () => {
    const tree = buildTree(
      0,
      proposalsOf([
        [1, 0],
        [1, 0],
        [1, 0],
        [1, 0],
      ]),
      { nodes: 5, depth: 4 },
    );
    checkTree(tree);
    expect([...tree.depths]).to.deep.equal([0, 1, 2, 3, 4]);
  });

  it('breaks ties by depth, then by rank from the root on', () => {
    const half = [0.5, 0.5];
    const tree = buildTree(0, proposalsOf([half, half, half]), { nodes: 6, depth: 3 });
    expect(rankPaths(tree)).to.deep.equal([[], [0], [1], [0, 0], [0, 1], [1, 0]]);
  });

  it('fills up with impossible nodes in flat order only when nothing else is left', () => {
    const tree = buildTree(
      0,
      proposalsOf([
        [1, 0],
        [1, 0],
      ]),
      { nodes: 6, depth: 2 },
    );
    expect(rankPaths(tree)).to.deep.equal([[], [0], [1], [0, 0], [0, 1], [1, 0]]);
  });

  it('keeps exact ties apart where a flat index would overflow (m = 64, K = 12)', () => {
    const level = new Array<number>(64).fill(1);
    const tree = buildTree(0, proposalsOf(new Array<number[]>(12).fill(level)), { nodes: 200, depth: 12 });
    checkTree(tree);
    expect([...tree.depths].filter((depth) => depth === 1)).to.have.length(64);
    expect(
      rankPaths(tree)
        .slice(65)
        .map((path) => path.join()),
    ).to.deep.equal(Array.from({ length: 135 }, (_, i) => `${Math.floor(i / 64)},${i % 64}`));
  });

  it('takes any n, m and K, and no more than there is', () => {
    const size = (levels: number[][], nodes: number, depth = levels.length): number =>
      buildTree(0, proposalsOf(levels), { nodes, depth }).size;
    expect(size([[0.9]], 1)).to.equal(1);
    expect(size([[0.9]], 2)).to.equal(2);
    expect(size([[0.9]], 1000)).to.equal(2);
    expect(
      size(
        [
          [0.9, 0.1],
          [0.5, 0.5],
        ],
        1000,
      ),
    ).to.equal(7);
    expect(
      size(
        [
          [0.9, 0.1],
          [0.5, 0.5],
        ],
        1000,
        1,
      ),
    ).to.equal(3);
    expect(
      size(
        [
          [0.9, 0.1],
          [0.5, 0.5],
        ],
        1000,
        0,
      ),
    ).to.equal(1);
  });

  it('renormalises over the top m on demand', () => {
    const proposals = proposalsOf([
      [0.2, 0.1, 0.1],
      [0.6, 0.3, 0.1],
    ]);
    const { probabilities } = buildTree(0, proposals, { nodes: 4, depth: 2, marginals: 'top-m' });
    expect([...probabilities].map((value) => value.toFixed(6))).to.deep.equal([
      '1.000000',
      '0.500000',
      '0.250000',
      '0.300000',
    ]);
    const even = buildTree(0, proposalsOf([[0, 0]]), { nodes: 3, depth: 1, marginals: 'top-m' });
    expect([...even.probabilities]).to.deep.equal([1, 0, 0]);
  });

  it('applies a correction for each head and caps the result at 1', () => {
    const proposals = proposalsOf([
      [0.75, 0.25],
      [0.5, 0.5],
    ]);
    const { probabilities } = buildTree(0, proposals, { nodes: 7, depth: 2, correction: [2, 0.5] });
    expect([...probabilities]).to.deep.equal([1, 1, 0.5, 0.25, 0.25, 0.125, 0.125]);
  });

  it('refuses probabilities that are no sorted softmax, naming head and rank', () => {
    const build = (levels: number[][]): CandidateTree =>
      buildTree(0, proposalsOf(levels), { nodes: 9, depth: 4 });
    expect(() =>
      build([
        [0.5, 0.4],
        [0.5, NaN],
      ]),
    ).to.throw(RangeError, /Head 1 .* NaN at rank 1/);
    expect(() => build([[0.5, 0.6]])).to.throw(RangeError, /Head 0 .* rank 1; it must lie between 0 and 0.5/);
    expect(() => build([[0.5, -0.1]])).to.throw(RangeError, /Head 0/);
    expect(() => build([[1.5, 0.1]])).to.throw(RangeError, /Head 0/);
    expect(build([[1.0000001, 0.1]]).probabilities[1]).to.equal(1);
  });
});

describe('CandidateTreeBuilder', () => {
  it('gives the same trees when it is reused, and trees that later steps leave alone', () => {
    const builder = new CandidateTreeBuilder();
    fc.assert(
      fc.property(marginals, fc.integer({ min: 1, max: 60 }), (levels, nodes) => {
        const proposals = proposalsOf(levels);
        const options = { nodes, depth: levels.length };
        const tree = builder.take(builder.find(3, proposals, options));
        const copy = structuredClone(tree);
        builder.take(builder.find(9, proposalsOf([[0.7, 0.3]]), { nodes: 3, depth: 1 }));
        expect(tree).to.deep.equal(copy);
        expect(tree).to.deep.equal(buildTree(3, proposals, options));
      }),
    );
  });

  it('takes the first n found as the tree of n nodes', () => {
    const builder = new CandidateTreeBuilder();
    fc.assert(
      fc.property(marginals, fc.integer({ min: 1, max: 40 }), (levels, nodes) => {
        const proposals = proposalsOf(levels);
        const found = builder.find(1, proposals, { nodes: 40, depth: 4 });
        const size = Math.min(nodes, found);
        expect([...builder.probabilities.subarray(0, found)]).to.deep.equal(
          descending([...builder.probabilities.subarray(0, found)]),
        );
        expect(builder.take(size)).to.deep.equal(buildTree(1, proposals, { nodes: size, depth: 4 }));
      }),
    );
  });

  it('refuses to take more than was found', () => {
    const builder = new CandidateTreeBuilder();
    expect(() => builder.take(1)).to.throw(RangeError);
    const found = builder.find(0, proposalsOf([[1]]), { nodes: 10, depth: 1 });
    expect(() => builder.take(found + 1)).to.throw(RangeError);
  });
});

describe('tree helpers', () => {
  it('find the child with a token among the children only', () => {
    const tree = buildTree(
      4,
      {
        heads: 2,
        topM: 2,
        ids: Int32Array.of(1, 2, 1, 2),
        probabilities: Float32Array.of(0.5, 0.4, 0.5, 0.4),
      },
      { nodes: 7, depth: 2 },
    );
    for (let row = 0; row < tree.size; row++) {
      for (const token of [1, 2, 3, 4]) {
        const child = findChild(tree, row, token);
        if (child === -1) continue;
        expect([tree.parents[child], tree.tokens[child]]).to.deep.equal([row, token]);
      }
    }
    expect(findChild(tree, 0, 4)).to.equal(-1);
    expect(findChild(tree, 0, 2)).to.equal(2);
    expect(findChild(tree, 2, 2)).to.equal(6);
  });

  it('make the one-node tree of plain decoding', () => {
    const tree = rootTree(42);
    checkTree(tree);
    expect(tree.size).to.equal(1);
    expect(tree.tokens[0]).to.equal(42);
  });
});
