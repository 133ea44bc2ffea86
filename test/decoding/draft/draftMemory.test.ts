import { expect } from 'chai';
import { DraftMemory } from '../../../src/decoding/draft/draftMemory.js';
import { allocateTree, rootTree } from '../../../src/decoding/tree/candidateTree.js';
import type { CandidateTree } from '../../../src/decoding/types.js';

describe('draft memory', () => {
  it('follows a text that grows, and makes the conversation before an earlier text where that is wanted', () => {
    const memory = new DraftMemory({ earlier: true });
    memory.follow([1, 2, 3]);
    memory.follow([1, 2, 3, 4, 5]);
    expect([...memory.conversation.tokensFrom(0)]).to.deep.equal([1, 2, 3, 4, 5]);
    expect(memory.earlier!.size).to.equal(0);
    memory.follow([1, 2, 9]);
    expect([...memory.conversation.tokensFrom(0)]).to.deep.equal([1, 2, 9]);
    expect([...memory.earlier!.tokensFrom(0)]).to.deep.equal([1, 2, 3, 4, 5]);
    const forgetful = new DraftMemory();
    forgetful.follow([1, 2, 3]);
    forgetful.follow([7]);
    expect(forgetful.earlier).to.equal(undefined);
    expect([...forgetful.conversation.tokensFrom(0)]).to.deep.equal([7]);
  });

  it('keeps the later half of earlier texts when there are too many', () => {
    const memory = new DraftMemory({ earlier: true });
    for (let text = 0; text < 14; text++)
      memory.follow(Array.from({ length: 6000 }, (_, i) => text * 6000 + i));
    expect(memory.earlier!.size).to.be.within(30_000, 66_000);
    expect(memory.earlier!.tokensFrom(0).at(-1)).to.equal(13 * 6000 - 1);
    expect(memory.earlier!.find([70_001, 70_000], 2)).to.equal(2);
    expect(memory.earlier!.found[1]).to.equal(70_002);
    expect(memory.earlier!.find([3], 1)).to.equal(0);
  });

  it('recycles every verified row, the accepted ones last', () => {
    const memory = new DraftMemory();
    // Rows 1 and 2 hold the same token after the root, as two guesses of two depths might; row 1 is accepted.
    const tree = treeOf([5, 6, 6], [-1, 0, 1]);
    memory.recycle(tree, 4, [6, 7, 8], [0, 1]);
    const { recycled } = memory;
    expect(recycled.token(recycled.find(4, 5), 0)).to.equal(6);
    expect(recycled.token(recycled.find(5, 6), 0)).to.equal(7);
    expect(recycled.token(recycled.find(6, 6), 0)).to.equal(8);
    expect(recycled.token(recycled.find(-1, 6), 0)).to.equal(7);
    expect(recycled.token(recycled.find(-1, 6), 1)).to.equal(8);
    memory.recycle(rootTree(1), -1, [2], [0]);
    expect(recycled.token(recycled.find(-1, 1), 0)).to.equal(2);
  });

  it('gives its contents, and begins with those of another', () => {
    const memory = new DraftMemory({ earlier: true });
    memory.follow([1, 2, 3, 1, 2, 3]);
    memory.recycle(rootTree(3), 2, [1], [0]);
    memory.evidence.learn(0, 1);
    const again = new DraftMemory({ earlier: true, contents: memory.contents() });
    expect([...again.earlier!.tokensFrom(0)]).to.deep.equal([1, 2, 3, 1, 2, 3]);
    expect(again.recycled.entries()).to.deep.equal(memory.recycled.entries());
    expect(again.evidence.weights).to.deep.equal(memory.evidence.weights);
    expect(again.evidence.weights).not.to.deep.equal(new DraftMemory().evidence.weights);
  });
});

function treeOf(tokens: readonly number[], parents: readonly number[]): CandidateTree {
  const tree = allocateTree(tokens.length);
  tree.tokens.set(tokens);
  tree.parents.set(parents);
  return tree;
}
