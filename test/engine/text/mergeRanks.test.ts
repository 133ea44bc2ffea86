import { expect } from 'chai';
import { mergeRanks } from '../../../src/engine/text/mergeRanks.js';

describe('mergeRanks', () => {
  const vocab = { a: 0, b: 1, c: 2, '<s>': 3, ab: 4, bc: 5, abc: 6 };
  const merges = [
    ['a', 'b'],
    ['b', 'c'],
    ['a', 'bc'],
  ];

  it('are those of the list, for merges and for all other pairs', () => {
    for (const form of [merges, merges.map((pair) => pair.join(' '))]) {
      const ranks = mergeRanks({ type: 'BPE', vocab, merges: form })!;
      const names = [...Object.keys(vocab), 'constructor', '', 'x'];
      for (const left of names) {
        for (const right of names) {
          const expected = merges.findIndex(([a, b]) => a === left && b === right);
          const found = ranks.get(JSON.stringify([left, right]));
          expect(found ?? -1, `${left} ${right}`).to.equal(expected);
        }
      }
    }
  });

  it('are left to the library where the order of the merges is not that of the vocabulary', () => {
    const swapped = [merges[1], merges[0], merges[2]];
    const twice = [...merges, ['ab', 'c']];
    for (const other of [swapped, twice, [['a', 'x']], []]) {
      expect(mergeRanks({ type: 'BPE', vocab, merges: other })).to.equal(undefined);
    }
    expect(mergeRanks({ type: 'Unigram', vocab: [['a', -1]] })).to.equal(undefined);
    expect(mergeRanks(undefined)).to.equal(undefined);
  });
});
