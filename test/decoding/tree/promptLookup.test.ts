import { expect } from 'chai';
import fc from 'fast-check';
import { buildTree, CandidateTreeBuilder, pathTo } from '../../../src/decoding/tree/candidateTree.js';
import { LookupIndex, longestMatch } from '../../../src/decoding/tree/lookupIndex.js';
import { PromptLookup, deepestLookup, type LookupWeights } from '../../../src/decoding/tree/promptLookup.js';
import { autoTree, dynamicTree } from '../../../src/decoding/policy/treePolicy.js';
import type { CandidateTree, HeadProposals, TreePolicy } from '../../../src/decoding/types.js';
import { anyTable, madeTable, withContexts } from '../../support/conditional.js';
import { decodeAll } from '../../support/decodeAll.js';
import { checkTree, TableModel } from '../../support/tableModel.js';

/** Few tokens, so that texts repeat. */
const vocabSize = 5;
const token = fc.integer({ min: 0, max: vocabSize - 1 });
const texts = fc.array(token, { minLength: 1, maxLength: 60 });

/** What followed the longest suffix of `words` that ends, with its follower, inside the first `length` words. */
function bruteForce(words: readonly number[], length: number): { length: number; found: number } {
  let best = { length: 0, found: -1 };
  for (let run = 1; run <= Math.min(longestMatch, words.length); run++) {
    const suffix = words.slice(-run).join();
    let at = length - 1;
    while (at >= run && words.slice(at - run, at).join() !== suffix) at--;
    if (at < run) break;
    best = { length: run, found: words[at] };
  }
  return best;
}

describe('context index', () => {
  it('finds what followed the longest repeat last, as a search through the text does', () => {
    fc.assert(
      fc.property(texts, fc.array(token, { maxLength: 6 }), (text, path) => {
        const index = new LookupIndex();
        index.update(text);
        const expected = bruteForce([...text, ...path], text.length);
        expect(index.find(path.toReversed(), path.length)).to.equal(expected.length);
        if (expected.length > 0) expect(index.found).to.equal(expected.found);
      }),
      { numRuns: 1000 },
    );
  });

  it('follows a text that grows, and one that is replaced', () => {
    fc.assert(
      fc.property(fc.array(texts, { minLength: 1, maxLength: 4 }), fc.nat(60), (parts, shared) => {
        const index = new LookupIndex();
        let text: number[] = [];
        for (const part of parts) {
          text = [...text.slice(0, shared), ...part];
          for (let end = 1; end <= text.length; end++) {
            index.update(text.slice(0, end));
            const expected = bruteForce(text.slice(0, end), end);
            expect(index.find([], 0)).to.equal(expected.length);
            if (expected.length > 0) expect(index.found).to.equal(expected.found);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('grows past its first size', () => {
    const text = Array.from({ length: 5000 }, (_, i) => (i * i) % 2048);
    const index = new LookupIndex();
    index.update(text);
    expect(index.find([], 0)).to.equal(bruteForce(text, text.length).length);
  });
});

const weightsOf = (heads: number, shares: readonly number[]): LookupWeights =>
  Array.from({ length: heads + 1 }, (_, level) =>
    Array.from({ length: longestMatch }, (_, i) => shares[(level * longestMatch + i) % shares.length]),
  );

/** Heads whose lists hold some of the few tokens. */
const proposals: fc.Arbitrary<HeadProposals> = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
  .chain(([heads, topM]) =>
    fc
      .tuple(
        fc.array(fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: topM, maxLength: topM }), {
          minLength: heads,
          maxLength: heads,
        }),
        fc.array(fc.double({ min: 0.05, max: 0.9, noNaN: true }), { minLength: heads, maxLength: heads }),
      )
      .map(([lists, firsts]) => ({
        heads,
        topM,
        ids: Int32Array.from(lists.flat()),
        probabilities: Float32Array.from(
          firsts.flatMap((first) => Array.from({ length: topM }, (_, rank) => first * 0.3 ** rank)),
        ),
      })),
  );

const shares = fc.array(fc.double({ min: 0.05, max: 0.95, noNaN: true }), { minLength: 3, maxLength: 20 });

interface Search {
  readonly nodes: number;
  readonly depth: number;
  readonly lookupDepth: number;
}
const searches: fc.Arbitrary<Search> = fc.record({
  nodes: fc.integer({ min: 1, max: 40 }),
  depth: fc.integer({ min: 0, max: 4 }),
  lookupDepth: fc.integer({ min: 0, max: 7 }),
});

/** Probability of each path of tokens, by the definition: q'(y) = (1 - w) q(y) + w [y = c], level by level. */
function allPaths(
  text: readonly number[],
  { heads, topM, ids, probabilities }: HeadProposals,
  weights: LookupWeights,
  { nodes, depth, lookupDepth }: Search,
): Map<string, number> {
  const levels = Math.max(0, Math.min(heads, depth, nodes - 1));
  const deepest = Math.max(levels, Math.min(lookupDepth, deepestLookup, nodes - 1));
  const found = new Map<string, number>();
  const visit = (path: readonly number[], probability: number): void => {
    const level = path.length;
    if (level >= deepest) return;
    const children = new Map<number, number>();
    for (let rank = 0; level < levels && rank < topM; rank++) {
      children.set(ids[level * topM + rank], probabilities[level * topM + rank]);
    }
    const copy = bruteForce([...text, ...path], text.length);
    if (copy.length > 0) {
      const share = weights[Math.min(level, weights.length - 1)][copy.length - 1];
      for (const [word, q] of children) children.set(word, q * (1 - share));
      children.set(copy.found, (children.get(copy.found) ?? 0) + share);
    }
    for (const [word, q] of children) {
      found.set([...path, word].join(), probability * q);
      visit([...path, word], probability * q);
    }
  };
  visit([], 1);
  return found;
}

const tokenPaths = (tree: CandidateTree): string[] =>
  Array.from({ length: tree.size }, (_, row) =>
    pathTo(tree, row)
      .slice(1)
      .map((at) => tree.tokens[at])
      .join(),
  );

describe('trees with a prompt lookup', () => {
  it('hold the most probable paths of all, with their probabilities', () => {
    fc.assert(
      fc.property(texts, proposals, shares, searches, (text, given, some, options) => {
        const weights = weightsOf(given.heads, some);
        const root = text.at(-1)!;
        const lookup = new PromptLookup(weights);
        const tree = buildTree(root, given, { ...options, text }, undefined, lookup);
        checkTree(tree);
        const all = allPaths(text, given, weights, options);
        expect(tree.size).to.equal(Math.min(options.nodes, 1 + all.size));
        const paths = tokenPaths(tree);
        expect(new Set(paths).size).to.equal(tree.size);
        for (let row = 1; row < tree.size; row++) {
          expect(tree.probabilities[row]).to.be.closeTo(all.get(paths[row])!, 1e-6);
        }
        const best = [...all.values()].sort((a, b) => b - a);
        const found = [...tree.probabilities].sort((a, b) => b - a).slice(1);
        found.forEach((probability, i) => expect(probability).to.be.closeTo(best[i], 1e-6));
        // A rank is that of the head's list, and there is none for what no head listed.
        for (let row = 1; row < tree.size; row++) {
          const level = tree.depths[row] - 1;
          const list = [...given.ids.subarray(level * given.topM, (level + 1) * given.topM)];
          const isWithinHeads = level < Math.min(given.heads, options.depth, options.nodes - 1);
          expect(tree.ranks[row]).to.equal(isWithinHeads ? list.indexOf(tree.tokens[row]) : -1);
        }
      }),
      { numRuns: 800 },
    );
  });

  it('are the trees without a lookup, to the bit, when its weights are 0', () => {
    fc.assert(
      fc.property(texts, proposals, searches, anyTable(vocabSize), (text, given, options, made) => {
        const table = madeTable(made);
        const full = withContexts(given, table);
        const lookup = new PromptLookup(weightsOf(given.heads, [0]));
        const search = { ...options, text };
        const root = text.at(-1)!;
        expect(buildTree(root, full, search, table, lookup)).to.deep.equal(
          buildTree(root, full, search, table),
        );
        expect(buildTree(root, full, search, undefined, lookup)).to.deep.equal(buildTree(root, full, search));
      }),
      { numRuns: 400 },
    );
  });

  it('go on copying beyond the heads, as deep as the limits allow', () => {
    const phrase = [1, 2, 3, 4, 0, 2, 4, 1, 3];
    const text = [...phrase, ...phrase, 1];
    const given = { heads: 1, topM: 1, ids: Int32Array.of(0), probabilities: Float32Array.of(0.01) };
    const lookup = new PromptLookup(weightsOf(1, [0.9]));
    const builder = new CandidateTreeBuilder(undefined, lookup);
    const tree = builder.take(builder.find(1, given, { nodes: 7, depth: 1, lookupDepth: 5, text }));
    expect([...tree.tokens]).to.deep.equal([1, 0, 2, 3, 4, 0, 2]);
    expect([...tree.depths]).to.deep.equal([0, 1, 1, 2, 3, 4, 5]);
    expect([...tree.ranks]).to.deep.equal([-1, 0, -1, -1, -1, -1, -1]);
  });

  it('refuse a text that does not end with the root, and weights that are no shares', () => {
    const given = { heads: 1, topM: 1, ids: Int32Array.of(0), probabilities: Float32Array.of(0.5) };
    const lookup = new PromptLookup(weightsOf(1, [0.5]));
    const options = { nodes: 3, depth: 1 };
    expect(() => buildTree(1, given, options, undefined, lookup)).to.throw(RangeError, 'end with the root 1');
    expect(() => buildTree(1, given, { ...options, text: [1, 2] }, undefined, lookup)).to.throw('not with 2');
    for (const wrong of [1, -0.1, NaN]) {
      expect(() => new PromptLookup(weightsOf(1, [wrong]))).to.throw(
        RangeError,
        'Row 0 of the lookup weights',
      );
    }
    expect(() => new PromptLookup([[0.5]])).to.throw(RangeError, 'must be 8 numbers');
  });

  it('decode the text of plain decoding, in fewer steps where it repeats', async () => {
    const lookup = weightsOf(4, [0.5, 0.8]);
    const shape = { heads: 4, topM: 3, lookup };
    const costs = [
      { nodes: 1, milliseconds: 10 },
      { nodes: 64, milliseconds: 20 },
    ];
    // One model never repeats itself, the other does nothing else; its heads are of little use.
    const time = { verify: (nodes: number) => 10 + nodes / 6, heads: 0.1 };
    for (const options of [{}, { inject: { token: 3, every: 1 }, accuracy: [0.1] }]) {
      const decoded = (policy?: TreePolicy): ReturnType<typeof decodeAll> =>
        decodeAll(new TableModel({ ...options, costs: time }), [1, 2], {
          maxNewTokens: 200,
          ...(policy && { policy }),
        });
      const plain = await decoded();
      const steps: number[] = [];
      for (const policy of [
        dynamicTree({ nodes: 12, heads: 4, topM: 3 }),
        dynamicTree({ nodes: 12, ...shape }),
        autoTree({ nodes: 64, ...shape, costs }),
      ]) {
        const { result } = await decoded(policy);
        expect(result.tokens).to.deep.equal(plain.result.tokens);
        steps.push(result.steps);
      }
      // Twelve nodes in a row, and the bonus: 13 tokens a step once the text is seen to repeat.
      if (options.inject) expect(steps[1]).to.be.below(200 / 10);
      if (options.inject) expect(steps[2]).to.be.below(200 / 7);
    }
  });
});
