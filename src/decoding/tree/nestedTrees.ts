import {
  staticTreeFromPaths,
  TreeFormatError,
  type StaticTreeBounds,
  type StaticTree,
} from './staticTree.js';
import type { TreeLimits } from '../types.js';

/**
 * Static trees of every size as one list: the tree of n nodes is the root and the first n - 1 paths.
 *
 * A best-first search takes one path after the other, so each tree continues the one before it.
 */
export class NestedTrees {
  private constructor(readonly paths: readonly (readonly number[])[]) {}

  /**
   * Checks paths of ranks, each after its parent.
   *
   * @throws TreeFormatError that names the path, as `staticTreeFromPaths` does, or the place where an order is broken
   */
  static fromPaths(paths: unknown, bounds: StaticTreeBounds): NestedTrees {
    staticTreeFromPaths(paths, bounds);
    const nested = paths as number[][];
    const known = new Set(['']);
    nested.forEach((path, index) => {
      if (!known.has(path.slice(0, -1).join())) {
        throw new TreeFormatError(
          `Path ${JSON.stringify(path)} stands at place ${index}, before its parent ` +
            `${JSON.stringify(path.slice(0, -1))}. In a list of nested trees parents come first: move it after its parent.`,
        );
      }
      known.add(path.join());
    });
    return new NestedTrees(nested);
  }

  /**
   * The tree of `nodes` nodes; undefined when the list is too short for it, or when it needs more heads or candidates
   * than may be used: then another tree is best, and has to be searched.
   */
  shape({ nodes, depth }: TreeLimits, topM: number): StaticTree | undefined {
    if (nodes < 2 || nodes > this.paths.length + 1) return undefined;
    const first = this.paths.slice(0, nodes - 1);
    const fits = first.every((path) => path.length <= depth && path.every((rank) => rank < topM));
    return fits ? staticTreeFromPaths(first, { heads: depth, topM }) : undefined;
  }
}
