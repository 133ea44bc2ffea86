import { expect } from 'chai';
import fc from 'fast-check';
import { buildTree, CandidateTreeBuilder, pathTo } from '../../../src/decoding/tree/candidateTree.js';
import type { ConditionalTable } from '../../../src/decoding/tree/conditionalTable.js';
import { autoTree, dynamicTree } from '../../../src/decoding/policy/treePolicy.js';
import type { CandidateTree, HeadProposals } from '../../../src/decoding/types.js';
import { allConditionalPaths, anyTable, madeTable, withContexts } from '../../support/conditional.js';
import { proposalsOf, softmax } from '../../support/reference.js';
import { checkTree } from '../../support/tableModel.js';

/** `proposalsOf` names tokens 100 (head + 1) + rank. */
const vocabSize = 600;
const root = 7;

const rankPaths = (tree: CandidateTree): number[][] =>
  Array.from({ length: tree.size }, (_, row) =>
    pathTo(tree, row)
      .slice(1)
      .map((at) => tree.ranks[at]),
  );

/** The first m of softmaxes over 12 tokens, for 1 to 4 heads. */
const proposals: fc.Arbitrary<HeadProposals> = fc
  .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 6 }))
  .chain(([heads, m]) =>
    fc.array(
      fc.array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: 12, maxLength: 12 }).map((logits) =>
        softmax(logits)
          .map(Math.fround)
          .sort((a, b) => b - a)
          .slice(0, m),
      ),
      { minLength: heads, maxLength: heads },
    ),
  )
  .map((levels) => proposalsOf(levels));

/** Marginals full of ties, zeros and ones, whose sums need not be probabilities. */
const oddProposals: fc.Arbitrary<HeadProposals> = fc
  .integer({ min: 1, max: 5 })
  .chain((m) =>
    fc.array(
      fc
        .array(fc.constantFrom(0, 0.1, 0.3, 0.3333333, 0.5, 1), { minLength: m, maxLength: m })
        .map((level) => level.map(Math.fround).sort((a, b) => b - a)),
      { minLength: 1, maxLength: 4 },
    ),
  )
  .map((levels) => proposalsOf(levels));

const searches = fc.record({
  nodes: fc.integer({ min: 1, max: 70 }),
  depth: fc.integer({ min: 0, max: 5 }),
  marginals: fc.constantFrom('full' as const, 'top-m' as const),
  correction: fc.constantFrom(undefined, [0.5, 0.7, 1.3, 2], [2, 2, 2, 2]),
});

describe('conditional trees', () => {
  it('are the trees of products, to the bit, when all scores are 0', () => {
    fc.assert(
      fc.property(
        fc.oneof(proposals, oddProposals),
        searches,
        anyTable(vocabSize),
        (given, options, made) => {
          const table = madeTable({ ...made, spread: 0 });
          const zeros = { ...given, hiddenTerms: new Float32Array(given.heads * table.rank) };
          expect(buildTree(root, zeros, options, table)).to.deep.equal(buildTree(root, given, options));
        },
      ),
      { numRuns: 800 },
    );
  });

  it('hold the most probable paths of all, with their probabilities', () => {
    fc.assert(
      fc.property(proposals, searches, anyTable(vocabSize), (given, options, made) => {
        const table = madeTable(made);
        const full = withContexts(given, table);
        const tree = buildTree(root, full, options, table);
        checkTree(tree);
        const heads = Math.min(given.heads, options.depth);
        const all = allConditionalPaths(root, { ...full, heads }, table, {
          renormalised: options.marginals === 'top-m',
          correction: options.correction,
        });
        expect(tree.size).to.equal(Math.min(options.nodes, all.length));
        const known = new Map(all.map((path) => [path.ranks.join(), path]));
        rankPaths(tree).forEach((path, row) => {
          const { probability, rounding } = known.get(path.join())!;
          expect(tree.probabilities[row]).to.be.closeTo(probability, 1e-6 + probability * rounding);
        });
        // The order of what lies within rounding of each other may differ, so the probabilities are compared.
        const found = [...tree.probabilities].sort((a, b) => b - a);
        const most = all.reduce((largest, path) => Math.max(largest, path.probability * path.rounding), 1e-6);
        found.forEach((probability, i) => expect(probability).to.be.closeTo(all[i].probability, 2 * most));
      }),
      { numRuns: 500 },
    );
  });

  it('prefer what goes with the tokens before, and keep the ranks and the order of the lists', () => {
    const { proposals: given, table } = worked();
    const tree = buildTree(root, given, { nodes: 7, depth: 2 }, table);
    // After token 100 (rank 0) candidate 201 has the score ln 6: 0.3 * 6 / (0.6 + 0.3 * 6 + 0.1).
    expect(rankPaths(tree)).to.deep.equal([[], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]]);
    expect([...tree.tokens]).to.deep.equal([7, 100, 101, 200, 201, 200, 201]);
    expect(tree.probabilities[4]).to.be.closeTo(0.5 * (1.8 / 2.5), 1e-6);
    expect(tree.probabilities[3]).to.be.closeTo(0.5 * (0.6 / 2.5), 1e-6);
    expect(tree.probabilities[5]).to.be.closeTo(0.25 * 0.6, 1e-6);
    const small = buildTree(root, given, { nodes: 4, depth: 2 }, table);
    expect(rankPaths(small)).to.deep.equal([[], [0], [1], [0, 1]]);
  });

  it('divide by the scored list alone with marginals top-m', () => {
    const { proposals: given, table } = worked();
    const tree = buildTree(root, given, { nodes: 7, depth: 2, marginals: 'top-m' }, table);
    expect(tree.probabilities[4]).to.be.closeTo((0.5 / 0.75) * (1.8 / 2.4), 1e-6);
  });

  it('count scores beyond 60 as 60, and NaN as -60', () => {
    const table = { ...madeTable({ vocabSize, rank: 1, distances: 1, spread: 0 }) };
    table.inputs.values[root] = 1;
    table.outputs.set([80, 50, NaN], 100);
    const tree = buildTree(root, proposalsOf([[0.5, 0.3, 0.2]]), { nodes: 4, depth: 1 }, table);
    const weights = [0.5, 0.3 * Math.exp(-10), 0.2 * Math.exp(-120)];
    const sum = weights.reduce((a, b) => a + b);
    weights.forEach((weight, rank) => {
      expect(tree.probabilities[rank + 1]).to.be.closeTo(weight / sum, 1e-7);
    });
  });

  it('look back over as many ancestors as the table has distances, the root included', () => {
    // Distance 2 only: the root favours rank 1 of the second head, whatever came first.
    const table = { ...madeTable({ vocabSize, rank: 1, distances: 2, spread: 0 }) };
    table.inputs.values[vocabSize + root] = 1;
    table.outputs[201] = 5;
    const given = proposalsOf([
      [0.6, 0.3],
      [0.6, 0.3],
      [0.6, 0.3],
    ]);
    const tree = buildTree(root, given, { nodes: 15, depth: 3 }, table);
    const probability = (...ranks: number[]): number =>
      tree.probabilities[rankPaths(tree).findIndex((path) => path.join() === ranks.join())];
    expect(probability(0, 1)).to.be.above(3 * probability(0, 0));
    expect(probability(1, 1)).to.be.above(3 * probability(1, 0));
    expect(probability(1)).to.be.closeTo(0.3, 1e-6);
    expect(probability(0, 0, 1) / probability(0, 0)).to.be.closeTo(0.3, 1e-6);
  });

  it("add each head's context, and refuse proposals without one", () => {
    const table = madeTable({ vocabSize, rank: 2, distances: 1, spread: 0, usesHidden: true });
    table.outputs[2 * 201] = 3;
    const given = proposalsOf([
      [0.6, 0.3],
      [0.6, 0.3],
    ]);
    const tree = buildTree(
      root,
      { ...given, hiddenTerms: Float32Array.of(9, 9, 1, 0) },
      { nodes: 5, depth: 2 },
      table,
    );
    expect(rankPaths(tree)).to.deep.include([0, 1]);
    expect(rankPaths(tree)[1]).to.deep.equal([0]);
    const build = (hiddenTerms?: Float32Array): CandidateTree =>
      buildTree(root, { ...given, hiddenTerms }, { nodes: 5, depth: 2 }, table);
    expect(() => build()).to.throw(RangeError, /2 heads x 2 values, but the heads gave 0/);
    expect(() => build(new Float32Array(3))).to.throw(RangeError, /gave 3 values/);
  });

  it('stay trees under scores beyond all measure, and under a table of NaN', () => {
    for (const value of [1e4, -1e4, NaN, Infinity]) {
      const table = madeTable({ vocabSize, rank: 3, distances: 2, seed: 5 });
      table.outputs.forEach((_, i) => i % 4 === 0 && (table.outputs[i] = value));
      const tree = buildTree(root, proposalsOf([[0.5, 0.3], [0.4, 0.4], [0.9, 0]]), { nodes: 15, depth: 3 }, table); // prettier-ignore
      checkTree(tree);
      expect(tree.size).to.equal(15);
      expect([...tree.probabilities].every((p) => p >= 0 && p <= 1)).to.equal(true);
    }
  });

  it('are the same from a builder that is reused, and its first n found are the tree of n nodes', () => {
    const table = madeTable({ vocabSize, rank: 5, distances: 2, usesHidden: true });
    const builder = new CandidateTreeBuilder(table);
    fc.assert(
      fc.property(proposals, searches, fc.nat(69), (given, options, some) => {
        const full = withContexts(given, table);
        const found = builder.find(root, full, options);
        const size = 1 + (some % found);
        const tree = builder.take(size);
        checkTree(tree);
        expect(tree).to.deep.equal(buildTree(root, full, { ...options, nodes: size }, table));
        const copy = structuredClone(tree);
        builder.take(builder.find(9, withContexts(proposalsOf([[0.7, 0.3]]), table), { nodes: 3, depth: 1 }));
        expect(tree).to.deep.equal(copy);
      }),
    );
  });

  it('allocate nothing but the tree once they are warm', () => {
    const table = madeTable({ vocabSize, rank: 8, distances: 2 });
    const builder = new CandidateTreeBuilder(table);
    const given = proposalsOf(new Array<number[]>(4).fill([0.4, 0.2, 0.1, 0.1, 0.05]));
    builder.find(root, given, { nodes: 64, depth: 4 });
    const workspace = (): unknown[] =>
      Object.values((builder as unknown as { search: object }).search).filter((each) =>
        ArrayBuffer.isView(each),
      );
    const before = workspace();
    for (let nodes = 1; nodes <= 64; nodes++) builder.find(root, given, { nodes, depth: 4 });
    expect(before).to.have.length.above(8);
    workspace().forEach((array, i) => expect(array).to.equal(before[i]));
  });

  it('come from the policies of fixed and of automatic size', () => {
    const { proposals: given, table } = worked();
    const expected = buildTree(root, given, { nodes: 4, depth: 2 }, table);
    const options = { nodes: 4, heads: 2, topM: 2, conditional: table };
    expect(dynamicTree(options).build(root, given)).to.deep.equal(expected);
    const costs = [
      { nodes: 1, milliseconds: 10 },
      { nodes: 64, milliseconds: 10 },
    ];
    expect(autoTree({ ...options, costs }).build(root, given)).to.deep.equal(expected);
  });
});

/** Two heads of two candidates; token 100 makes token 201 six times as likely. */
function worked(): { proposals: HeadProposals; table: ConditionalTable } {
  const table = madeTable({ vocabSize, rank: 2, distances: 1, spread: 0 });
  table.inputs.values[2 * 100] = Math.log(6);
  table.outputs[2 * 201] = 1;
  return {
    table,
    proposals: proposalsOf([
      [0.5, 0.25],
      [0.6, 0.3],
    ]),
  };
}
