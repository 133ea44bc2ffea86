import { expect } from 'chai';
import fc from 'fast-check';
import { DraftMemory } from '../../../src/decoding/draft/draftMemory.js';
import { DraftSources, type DraftUse } from '../../../src/decoding/draft/draftSources.js';
import { cell } from '../../../src/decoding/draft/evidence.js';
import { longestRun, longestStreak } from '../../../src/decoding/draft/runIndex.js';
import { recycledWidth } from '../../../src/decoding/draft/recycledTokens.js';
import { autoTree, dynamicTree } from '../../../src/decoding/policy/treePolicy.js';
import { createRandom } from '../../../src/decoding/random.js';
import {
  buildTree,
  CandidateTreeBuilder,
  deepestSourced,
  pathTo,
} from '../../../src/decoding/tree/candidateTree.js';
import type { CandidateTree, HeadProposals, TreePolicy } from '../../../src/decoding/types.js';
import { anyTable, madeTable, withContexts } from '../../support/conditional.js';
import { decodeAll } from '../../support/decodeAll.js';
import { checkTree, TableModel } from '../../support/tableModel.js';

/** Few tokens, so that texts repeat. */
const vocabSize = 5;
const token = fc.integer({ min: 0, max: vocabSize - 1 });
const texts = fc.array(token, { minLength: 1, maxLength: 60 });
const observations = fc.array(fc.tuple(fc.integer({ min: -1, max: 4 }), token, token), { maxLength: 40 });
const all: DraftUse = { lookup: true, recycle: true };

interface Made {
  readonly text: readonly number[];
  readonly earlier: readonly number[] | undefined;
  readonly observed: readonly (readonly [number, number, number])[];
  readonly seed: number;
}
const memories: fc.Arbitrary<Made> = fc.record({
  text: texts,
  earlier: fc.option(texts, { nil: undefined }),
  observed: observations,
  seed: fc.nat(1000),
});

/** A memory with random weights, that has seen an earlier text and some continuations. */
function memoryOf({ earlier, observed, seed }: Made): DraftMemory {
  const memory = new DraftMemory({ earlier: earlier !== undefined });
  earlier?.forEach((each) => memory.earlier!.append(each));
  observed.forEach((each) => memory.recycled.observe(...each));
  const random = createRandom(seed);
  const { weights } = memory.evidence;
  for (let i = 0; i < weights.length; i++) weights[i] += 2 * random() - 1;
  return memory;
}

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
          firsts.flatMap((first) => Array.from({ length: topM }, (_, rank) => (first * 0.3 ** rank) / 1.5)),
        ),
      })),
  );

interface Search {
  readonly nodes: number;
  readonly depth: number;
  readonly sourceDepth: number;
}
const searches: fc.Arbitrary<Search> = fc.record({
  nodes: fc.integer({ min: 1, max: 30 }),
  depth: fc.integer({ min: 0, max: 4 }),
  sourceDepth: fc.integer({ min: 0, max: 5 }),
});

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));

interface Copy {
  readonly token: number;
  readonly length: number;
  readonly streak: number;
}

/** What followed each end of `words` in `text`, the longest first. */
function copies(text: readonly number[], words: readonly number[]): Copy[] {
  const found: Copy[] = [];
  for (let length = 1; length <= Math.min(longestRun, words.length); length++) {
    const suffix = words.slice(-length).join();
    const followers = text.filter((_, at) => at >= length && text.slice(at - length, at).join() === suffix);
    if (followers.length === 0) break;
    const last = followers.at(-1)!;
    const repeats = followers.length - 1 - followers.findLastIndex((each) => each !== last);
    found.unshift({ token: last, length, streak: Math.min(longestStreak, repeats - 1) });
  }
  return found;
}

/** The candidates of the sources after `words`, and the cells of the share, by the definition. */
function sourced(
  memory: DraftMemory,
  text: readonly number[],
  earlier: readonly number[] | undefined,
  words: readonly number[],
): { candidates: Map<number, number>; shareCells: number[] } {
  const cells = new Map<number, number[]>();
  const common = [cell.any];
  const enter = (next: number, own: readonly number[]): void =>
    void cells.set(next, [...(cells.get(next) ?? []), ...own]);
  const enterCopies = (found: readonly Copy[], isEarlier: boolean): void => {
    common.push(cell.matched(found[0]?.length ?? 0, isEarlier));
    const first = found.filter((each, at) => found.findIndex((other) => other.token === each.token) === at);
    for (const copy of first) {
      enter(copy.token, [cell.copied(copy.length, copy.length === found[0].length, copy.streak, isEarlier)]);
    }
  };
  const own = copies(text, words);
  enterCopies(own, false);
  if (earlier) enterCopies(copies(earlier, words), true);
  const { recycled } = memory;
  const [last, before] = [words.at(-1)!, words.at(-2)];
  const lists = [before === undefined ? -1 : recycled.find(before, last), recycled.find(-1, last)];
  const [pairStreak, streak] = lists.map((at) => (at === -1 ? undefined : recycled.streak(at)));
  const isPairKnown = pairStreak !== undefined;
  common.push(cell.pair(pairStreak), cell.single(streak, isPairKnown));
  for (let rank = 0; rank < recycledWidth; rank++) {
    const [pair, single] = lists.map((at) => (at === -1 ? -1 : recycled.token(at, rank)));
    if (pair !== -1) enter(pair, [cell.afterPair(rank, pairStreak!)]);
    if (single !== -1) enter(single, [cell.afterSingle(rank, streak!, isPairKnown)]);
  }
  const { weights } = memory.evidence;
  const sum = (list: readonly number[]): number => list.reduce((total, each) => total + weights[each], 0);
  const unscaled = [...cells].map(([next, list]) => [next, logistic(sum(common) + sum(list))] as const);
  const total = unscaled.reduce((mass, [, p]) => mass + p, 0);
  return {
    candidates: new Map(unscaled.map(([next, p]) => [next, p / Math.max(1, total)])),
    shareCells: [cell.shareOfMatch(own[0]?.length ?? 0, own[0]?.streak ?? 0), cell.shareOfPair(pairStreak)],
  };
}

/** Probability of each path of tokens, by the definition: q'(y) = (1 - w) q(y) + w f(y), level by level. */
function allPaths(
  memory: DraftMemory,
  { text, earlier }: Made,
  given: HeadProposals | undefined,
  { nodes, depth, sourceDepth }: Search,
): Map<string, number> {
  const levels = given ? Math.max(0, Math.min(given.heads, depth, nodes - 1)) : 0;
  const deepest = Math.max(levels, Math.min(sourceDepth, deepestSourced, nodes - 1));
  const found = new Map<string, number>();
  const visit = (path: readonly number[], probability: number): void => {
    const level = path.length;
    if (level >= deepest) return;
    const { candidates, shareCells } = sourced(memory, text, earlier, [...text, ...path]);
    const children = new Map<number, number>();
    let share = 1;
    if (level < levels) {
      const { topM, ids, probabilities } = given!;
      const best = probabilities[level * topM];
      const cells = [...shareCells, cell.shareOfHead(level), cell.shareByBest(best)];
      const weight = cells.reduce((total, each) => total + memory.evidence.weights[each], 0);
      share = candidates.size === 0 ? 0 : logistic(weight);
      for (let rank = 0; rank < topM; rank++) {
        children.set(ids[level * topM + rank], probabilities[level * topM + rank] * (1 - share));
      }
    }
    for (const [next, p] of candidates) children.set(next, (children.get(next) ?? 0) + share * p);
    for (const [next, p] of children) {
      found.set([...path, next].join(), probability * p);
      visit([...path, next], probability * p);
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

describe('trees of several sources', () => {
  it('hold the most probable paths of all, with their probabilities, with heads and without', () => {
    fc.assert(
      fc.property(memories, fc.option(proposals, { nil: undefined }), searches, (made, given, options) => {
        const { text } = made;
        const memory = memoryOf(made);
        const sources = new DraftSources(memory, all);
        const tree = buildTree(text.at(-1)!, given, { ...options, text }, undefined, sources);
        checkTree(tree);
        const paths = allPaths(memory, made, given, options);
        expect(tree.size).to.equal(Math.min(options.nodes, 1 + paths.size));
        const names = tokenPaths(tree);
        expect(new Set(names).size).to.equal(tree.size);
        for (let row = 1; row < tree.size; row++) {
          expect(tree.probabilities[row]).to.be.closeTo(paths.get(names[row])!, 1e-6);
        }
        const best = [...paths.values()].sort((a, b) => b - a);
        const found = [...tree.probabilities].sort((a, b) => b - a).slice(1);
        found.forEach((probability, i) => expect(probability).to.be.closeTo(best[i], 1e-6));
        // A rank is that of the head's list, and there is none for what no head listed.
        for (let row = 1; row < tree.size; row++) {
          const level = tree.depths[row] - 1;
          const isListed = given && level < Math.min(given.heads, options.depth, options.nodes - 1);
          const list = isListed ? [...given.ids.subarray(level * given.topM, (level + 1) * given.topM)] : [];
          expect(tree.ranks[row]).to.equal(list.indexOf(tree.tokens[row]));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('are the trees of the heads, to the bit, where the share of the sources is 0', () => {
    fc.assert(
      fc.property(memories, proposals, searches, anyTable(vocabSize), (made, given, options, of) => {
        const table = madeTable(of);
        const full = withContexts(given, table);
        const memory = memoryOf(made);
        for (let head = 0; head < given.heads; head++) memory.evidence.weights[cell.shareOfHead(head)] = -1e6;
        const sources = new DraftSources(memory, all);
        const levels = Math.min(given.heads, options.depth, options.nodes - 1);
        const search = { ...options, sourceDepth: levels, text: made.text };
        const root = made.text.at(-1)!;
        const alone = buildTree(root, full, search, table);
        const together = buildTree(root, full, search, table, sources);
        // What is impossible by the heads may stand at the end of a tree that has room for it.
        const count = alone.probabilities.filter((p) => p > 0).length;
        if (count === alone.size && together.probabilities.every((p) => p > 0)) {
          expect(together).to.deep.equal(alone);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('use the sources that they are told to', () => {
    const memory = new DraftMemory();
    memory.recycled.observe(-1, 1, 3);
    const text = [1, 2, 1];
    const children = (use: DraftUse): number[] => {
      const tree = buildTree(
        1,
        undefined,
        { nodes: 9, depth: 1, text },
        undefined,
        new DraftSources(memory, use),
      );
      return [...tree.tokens.subarray(1)].sort();
    };
    expect(children(all)).to.deep.equal([2, 3]);
    expect(children({ lookup: true, recycle: false })).to.deep.equal([2]);
    expect(children({ lookup: false, recycle: true })).to.deep.equal([3]);
  });

  it('go on beyond the heads, as deep as the limits allow', () => {
    const phrase = [1, 2, 3, 4, 0, 2, 4, 1, 3];
    const text = [...phrase, ...phrase, 1];
    const given = { heads: 1, topM: 1, ids: Int32Array.of(0), probabilities: Float32Array.of(0.4) };
    const builder = new CandidateTreeBuilder(
      undefined,
      new DraftSources(new DraftMemory(), { ...all, recycle: false }),
    );
    const tree = builder.take(builder.find(1, given, { nodes: 40, depth: 1, sourceDepth: 5, text }));
    expect(Math.max(...tree.depths)).to.equal(5);
    expect(tokenPaths(tree)).to.include('2,3,4,0,2');
  });

  it('refuse a text that does not end with the root', () => {
    const given = { heads: 1, topM: 1, ids: Int32Array.of(0), probabilities: Float32Array.of(0.5) };
    const sources = new DraftSources(new DraftMemory(), all);
    const options = { nodes: 3, depth: 1 };
    expect(() => buildTree(1, given, options, undefined, sources)).to.throw(
      RangeError,
      'end with the root 1',
    );
    expect(() => buildTree(1, given, { ...options, text: [1, 2] }, undefined, sources)).to.throw(
      'not with 2',
    );
  });

  it('learn how often each kind of candidate is right', () => {
    // After 1 comes what was copied (2) in 7 of 10 cases, else 4, whatever the heads say.
    const random = createRandom(3);
    const memory = new DraftMemory();
    const builder = new CandidateTreeBuilder(
      undefined,
      new DraftSources(memory, { lookup: true, recycle: false }),
    );
    const given = { heads: 1, topM: 2, ids: Int32Array.of(3, 4), probabilities: Float32Array.of(0.6, 0.3) };
    const text = [1, 2, 0, 1];
    const after = (proposals?: HeadProposals): CandidateTree =>
      builder.take(builder.find(1, proposals, { nodes: 2, depth: 1, text }));
    for (let i = 0; i < 4000; i++) {
      const tree = after(i % 2 ? given : undefined);
      const isCopy = random() < 0.7;
      const row = isCopy ? tree.tokens.indexOf(2) : -1;
      builder.learn(row === -1 ? [0] : [0, row], row === -1 ? (isCopy ? 2 : 4) : 0);
    }
    expect(after().probabilities[1]).to.be.closeTo(0.7, 0.07);
    // Of mixtures of the two, 0.7 f + 0.3 q is the likeliest: f is right in 7 of 10 cases, the heads' second in the others.
    const mixed = after(given);
    expect(mixed.tokens[1]).to.equal(2);
    expect(mixed.probabilities[1]).to.be.closeTo(0.7 * 0.7, 0.07);
  });

  it('decode the text of plain decoding, in fewer steps where it repeats', async () => {
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
      for (const heads of [0, 4]) {
        const shape = { heads, topM: 3 };
        const steps: number[] = [];
        for (const policy of [
          dynamicTree({ nodes: 12, ...shape, sources: new DraftSources(new DraftMemory(), all) }),
          autoTree({ nodes: 64, ...shape, sources: new DraftSources(new DraftMemory(), all), costs }),
        ]) {
          const { result } = await decoded(policy);
          expect(result.tokens).to.deep.equal(plain.result.tokens);
          steps.push(result.steps);
        }
        // Eleven nodes in a row, and the bonus: 12 tokens a step once the text is seen to repeat.
        if (options.inject) expect(steps[0]).to.be.below(200 / 8);
        if (options.inject) expect(steps[1]).to.be.below(200 / 6);
      }
    }
  });
});
