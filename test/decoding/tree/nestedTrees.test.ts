import { expect } from 'chai';
import fc from 'fast-check';
import { NestedTrees } from '../../../src/decoding/tree/nestedTrees.js';
import { searchStaticTree, TreeFormatError } from '../../../src/decoding/tree/staticTree.js';
import { defaultModelName } from '../../../src/models/defaultModel.js';
import { packageRoot } from '../../../src/util/packageRoot.js';
import { readJson } from '../../support/tinyModel.js';

const bounds = { heads: 4, topM: 64 };

describe('NestedTrees', () => {
  it('of the committed heads are the trees searched from their accuracies, for every n in 2..64', async () => {
    const sidecar = await readJson(`${packageRoot()}/heads/${defaultModelName}/medusa1.json`);
    const accuracies = sidecar.accuracies as number[][];
    const trees = NestedTrees.fromPaths(sidecar.static_tree, bounds);
    for (let nodes = 2; nodes <= 64; nodes++) {
      for (const topM of [32, 64]) {
        const searched = searchStaticTree(accuracies, { nodes, depth: 4 }, topM);
        expect(trees.shape({ nodes, depth: 4 }, topM), `${nodes} nodes`).to.deep.equal(searched);
      }
    }
  });

  it('of fewer heads or candidates than the list needs are left to the search, and never another tree', () => {
    const shares = fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 6, maxLength: 6 });
    const everyLevel = fc.array(shares, { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(
        everyLevel,
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 6 }),
        (levels, depth, topM) => {
          const trees = NestedTrees.fromPaths(popOrder(levels), bounds);
          for (let nodes = 2; nodes <= 20; nodes++) {
            const shape = trees.shape({ nodes, depth }, topM);
            if (shape !== undefined) {
              expect(shape).to.deep.equal(searchStaticTree(levels, { nodes, depth }, topM));
            }
          }
        },
      ),
    );
    const trees = NestedTrees.fromPaths([[0], [1], [0, 0]], bounds);
    expect(trees.shape({ nodes: 4, depth: 1 }, 64)).to.equal(undefined);
    expect(trees.shape({ nodes: 3, depth: 1 }, 1)).to.equal(undefined);
    expect(trees.shape({ nodes: 5, depth: 4 }, 64)).to.equal(undefined);
    expect(trees.shape({ nodes: 3, depth: 1 }, 2)?.size).to.equal(3);
  });

  it('refuses what is no such list', () => {
    const cases: [unknown, string][] = [
      ['tree', 'array of paths'],
      [[], 'no paths'],
      [[[0], [0]], 'occurs twice'],
      [[[0], [1, 0]], 'has no parent'],
      [[[0], [1, 0], [1]], 'Path [1,0] stands at place 1, before its parent [1]'],
      [[[64]], 'ranks go from 0 to 63'],
      [[[0], [0, 0], [0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0]], '5 deep, but 4 heads'],
    ];
    for (const [paths, words] of cases) {
      expect(() => NestedTrees.fromPaths(paths, bounds), words).to.throw(TreeFormatError, words);
    }
  });
});

/** The paths of 20 nodes in the order the search takes them: what each size adds to the one before. */
function popOrder(levels: number[][]): number[][] {
  const paths: number[][] = [];
  const known = new Set<string>();
  for (let nodes = 2; nodes <= 20; nodes++) {
    for (const path of pathsOf(levels, nodes)) {
      if (!known.has(path.join())) paths.push(path);
      known.add(path.join());
    }
  }
  return paths;
}

function pathsOf(levels: number[][], nodes: number): number[][] {
  const { size, parents, ranks } = searchStaticTree(levels, { nodes, depth: 4 }, 6);
  const paths: number[][] = [[]];
  for (let row = 1; row < size; row++) paths.push([...paths[parents[row]], ranks[row]]);
  return paths.slice(1);
}
