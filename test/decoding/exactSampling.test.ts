import { expect } from 'chai';
import { samplingAcceptance } from '../../src/decoding/acceptance.js';
import { findChild } from '../../src/decoding/tree/candidateTree.js';
import { DraftMemory } from '../../src/decoding/draft/draftMemory.js';
import { DraftSources } from '../../src/decoding/draft/draftSources.js';
import { NextTokenDistribution } from '../../src/decoding/distribution.js';
import { createRandom } from '../../src/decoding/random.js';
import { dynamicTree, noTree, staticTree } from '../../src/decoding/policy/treePolicy.js';
import { staticTreeFromPaths } from '../../src/decoding/tree/staticTree.js';
import type { Acceptance, TreePolicy } from '../../src/decoding/types.js';
import { decodeAll } from '../support/decodeAll.js';
import { chiSquareScore, softmax } from '../support/reference.js';
import { TableModel } from '../support/tableModel.js';

/**
 * The tokens that come out of tree decoding must be distributed as the model says. The joint distribution of the first
 * three tokens (the prefill's and those of one or two steps, whatever was accepted) is counted over many generations
 * and held against the exact one by Pearson's chi-square test. Seeds are fixed, so a run either always passes or
 * always fails; alpha is 0.001 for each of the tests (a score above 3.09).
 */
const vocabSize = 5;
const runs = 6000;
const alphaScore = 3.09;
const prompt = [1, 2];
const model = (): TableModel =>
  new TableModel({ vocabSize, headCount: 3, maxTopM: 5, accuracy: [0.7, 0.6], sharpness: 2, seed: 11 });

/** The exact joint distribution [vocabSize^3] of three tokens, drawn after `transform` of each next-token distribution. */
function exactJoint(transform: (probabilities: number[]) => number[], temperature: number): number[] {
  const table = model();
  const next = (path: number[]): number[] => transform(softmax([...table.logitsAfter(path)], temperature));
  return next(prompt).flatMap((p, a) =>
    next([...prompt, a]).flatMap((q, b) => next([...prompt, a, b]).map((r) => p * q * r)),
  );
}

async function countJoint(policy: () => TreePolicy, acceptance: Acceptance): Promise<number[]> {
  const counts = new Array<number>(vocabSize ** 3).fill(0);
  for (let run = 0; run < runs; run++) {
    const { result } = await decodeAll(model(), prompt, { policy: policy(), acceptance, maxNewTokens: 3 });
    const [a, b, c] = result.tokens;
    counts[(a * vocabSize + b) * vocabSize + c]++;
  }
  return counts;
}

/** Grows with every answer, so that what was sampled before decides what is drafted. */
const memory = new DraftMemory();
const sources = (): DraftSources => new DraftSources(memory, { lookup: true, recycle: true });

const policies: [string, () => TreePolicy][] = [
  ['no tree', noTree],
  ['a dynamic tree of 2 nodes', () => dynamicTree({ nodes: 2, heads: 3, topM: 5 })],
  ['a dynamic tree of 12 nodes', () => dynamicTree({ nodes: 12, heads: 3, topM: 5 })],
  ['a tree of all candidates', () => dynamicTree({ nodes: 156, heads: 3, topM: 5 })],
  ['a tree without heads', () => dynamicTree({ nodes: 5, heads: 0, topM: 0, sources: sources() })],
  ['a tree of all sources', () => dynamicTree({ nodes: 8, heads: 3, topM: 5, sources: sources() })],
  [
    'a static tree',
    () => staticTree(staticTreeFromPaths([[0], [1], [3], [0, 0], [1, 2]], { heads: 3, topM: 5 })),
  ],
];

describe('exact sampling', () => {
  const identity = (probabilities: number[]): number[] => probabilities;
  for (const [name, policy] of policies) {
    for (const temperature of [1, 0.6]) {
      it(`over ${name} has the model's distribution at temperature ${temperature}`, async () => {
        const random = createRandom(2024);
        const counts = await countJoint(policy, samplingAcceptance({ temperature, random }));
        expect(chiSquareScore(counts, exactJoint(identity, temperature))).to.be.below(alphaScore);
      });
    }
  }

  it('from the nucleus has the truncated distribution', async () => {
    const nucleus = (probabilities: number[]): number[] => {
      const order = probabilities
        .map((_, token) => token)
        .sort((a, b) => probabilities[b] - probabilities[a]);
      let mass = 0;
      const kept = order.slice(0, order.findIndex((token) => (mass += probabilities[token]) > 0.6) + 1);
      return probabilities.map((p, token) => (kept.includes(token) ? p / mass : 0));
    };
    const random = createRandom(7);
    const acceptance = samplingAcceptance({ name: 'nucleus', temperature: 1, topP: 0.6, random });
    const counts = await countJoint(() => dynamicTree({ nodes: 12, heads: 3, topM: 5 }), acceptance);
    const expected = exactJoint(nucleus, 1);
    expect(counts.every((count, i) => count === 0 || expected[i] > 0)).to.equal(true);
    expect(chiSquareScore(counts, expected)).to.be.below(alphaScore);
  });

  it('would be found out if it drew once for each child, as the reference implementation in effect does', async () => {
    const random = createRandom(3);
    const exact = samplingAcceptance({ temperature: 1, random });
    const distribution = new NextTokenDistribution();
    const biased: Acceptance = {
      ...exact,
      accept(tree, result) {
        const rows = [0];
        for (let row = 0; ;) {
          // A second draw whenever the first is no candidate.
          let token = distribution.load(result, row, 1).sample(random);
          if (findChild(tree, row, token) === -1) token = distribution.sample(random);
          row = findChild(tree, row, token);
          if (row === -1) return { rows, bonus: token };
          rows.push(row);
        }
      },
    };
    const counts = await countJoint(() => dynamicTree({ nodes: 4, heads: 3, topM: 5 }), biased);
    expect(chiSquareScore(counts, exactJoint(identity, 1))).to.be.above(8);
  });
});
