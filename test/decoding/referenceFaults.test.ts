import { expect } from 'chai';
import { createAcceptance, greedyAcceptance } from '../../src/decoding/acceptance.js';
import { buildTree } from '../../src/decoding/tree/candidateTree.js';
import { chainParents, fillTreeBias, sharedLayout } from '../../src/decoding/tree/treeMask.js';
import { dynamicTree } from '../../src/decoding/policy/treePolicy.js';
import type { HeadProposals } from '../../src/decoding/types.js';
import { decodeAll } from '../support/decodeAll.js';
import { proposalsOf } from '../support/reference.js';
import { checkTree, TableModel } from '../support/tableModel.js';

/**
 * Faults known from the reference implementations (Medusa, MEDUSA-Plus), each with the input that shows it.
 */
describe('faults of the reference implementations', () => {
  it('short paths padded with token 0: acceptance ran past a leaf where 0 is a real token', () => {
    // Paths of lengths 3 and 1; the backbone says 0 after the short one's leaf, then 0 again.
    const proposals: HeadProposals = {
      heads: 3,
      topM: 2,
      ids: Int32Array.of(5, 6, 7, 8, 9, 4),
      probabilities: Float32Array.of(0.5, 0.4, 0.9, 0.01, 0.9, 0.01),
    };
    const tree = buildTree(3, proposals, { nodes: 5, depth: 3 });
    const leaf = [...tree.tokens].indexOf(6);
    const nextTokens = new Int32Array(tree.size);
    nextTokens[0] = 6;
    const accepted = greedyAcceptance().accept(tree, { rows: tree.size, nextTokens, vocabSize: 10 });
    expect(accepted).to.deep.equal({ rows: [0, leaf], bonus: 0 });
  });

  it('top-k over all products: a saturated head gave a child without its parent', () => {
    // All products of rank 0 are 1, so any five of [0], [0,0], [0,0,0], ... tie.
    const one = [1, 1e-30, 1e-38];
    for (let nodes = 1; nodes <= 10; nodes++) {
      checkTree(buildTree(0, proposalsOf([one, one, one, one]), { nodes, depth: 4 }));
    }
  });

  it('a tie at the cut gave a node the mask of another: masks follow rows here, not ranks', () => {
    const tie = [0.25, 0.25, 0.25, 0.25];
    const tree = buildTree(0, proposalsOf([tie, tie]), { nodes: 7, depth: 2 });
    const bias = new Float32Array(7 * 7);
    fillTreeBias(bias, tree.parents, 7, sharedLayout(0, 7, -1e4));
    for (let row = 0; row < 7; row++) {
      const seen = Array.from({ length: 7 }, (_, column) => column).filter(
        (column) => bias[row * 7 + column] === 0,
      );
      expect(seen).to.have.length(tree.depths[row] + 1);
      expect(seen).to.include.members([0, Math.max(0, tree.parents[row]), row]);
    }
  });

  it('probabilities renormalised over the top m: an uncertain head looked sure', () => {
    const unsure = proposalsOf([[0.04, 0.01]]);
    const top = (marginals: 'full' | 'top-m'): number =>
      buildTree(0, unsure, { nodes: 2, depth: 1, marginals }).probabilities[1];
    expect(top('full')).to.be.closeTo(0.04, 1e-7);
    expect(top('top-m')).to.be.closeTo(0.8, 1e-7);
  });

  it('the inference count began at 0 and came out one low', async () => {
    const { result } = await decodeAll(new TableModel({ accuracy: [1] }), [1], {
      policy: dynamicTree({ nodes: 16, heads: 4, topM: 8 }),
      maxNewTokens: 11,
    });
    expect(result).to.include({ newTokens: 11, steps: 2, inferences: 3 });
    expect(result.tokensPerStep).to.equal(5);
    expect(result.tokensPerInference).to.equal(11 / 3);
  });

  it('tokens after EOS were counted, and maximum and temperature ignored', async () => {
    const model = new TableModel({ accuracy: [1], seed: 8 });
    const policy = dynamicTree({ nodes: 16, heads: 4, topM: 8 });
    const continuation = model.greedyContinuation([1], 10);
    const eos = continuation[2];
    const ended = await decodeAll(model, [1], { policy, eosTokenIds: [eos] });
    expect(ended.result.tokens).to.deep.equal(continuation.slice(0, continuation.indexOf(eos) + 1));
    expect((await decodeAll(model, [1], { policy, maxNewTokens: 4 })).result.newTokens).to.equal(4);
    const sampled = new Set<string>();
    for (let seed = 0; seed < 5; seed++) {
      const acceptance = createAcceptance({ name: 'sampling', temperature: 2, seed });
      sampled.add(
        (await decodeAll(model, [1], { policy, acceptance, maxNewTokens: 8 })).result.tokens.join(),
      );
    }
    expect(sampled.size).to.equal(5);
  });

  it('the heads ran on every node: here once for each step, on the accepted row', async () => {
    const model = new TableModel();
    const { result } = await decodeAll(model, [1], { policy: dynamicTree({ nodes: 16, heads: 4, topM: 8 }) });
    const count = (name: string): number => model.calls.filter((call) => call === name).length;
    expect(count('propose')).to.be.within(result.steps - 1, result.steps);
    expect(count('verify')).to.equal(result.steps);
    expect(count('prefill')).to.equal(1);
  });

  it('fewer heads than the tree is deep overflowed an index', () => {
    const tree = buildTree(
      0,
      proposalsOf([
        [0.9, 0.1],
        [0.8, 0.1],
      ]),
      { nodes: 64, depth: 5 },
    );
    expect(Math.max(...tree.depths)).to.equal(2);
    expect(chainParents(1)).to.deep.equal(Int32Array.of(-1));
  });
});
