import { allocateTree, buildTree, pathTo } from './candidateTree.js';
import type { CandidateTree, HeadProposals, TreeLimits } from '../types.js';

/** A static tree that cannot be used; the message names the path, the value, the valid range and the remedy. */
export class TreeFormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TreeFormatError';
  }
}

/** The shape of a static tree: the same ranks at every step, filled with each step's candidates. */
export interface StaticTree {
  /** Nodes, root included. */
  readonly size: number;
  /** Depth of the deepest node: the heads it needs. */
  readonly depth: number;
  /** Candidates it needs of each head: the largest rank + 1; 0 for a lone root. */
  readonly topM: number;
  /** [size] as in `CandidateTree`; rows in flat-index order, so shallower rows come first. */
  readonly parents: Int32Array;
  readonly depths: Int32Array;
  readonly ranks: Int32Array;
}

/** What the heads offer to a static tree. */
export interface StaticTreeBounds {
  readonly heads: number;
  readonly topM: number;
}

/**
 * Checks a static tree given as paths of ranks, such as [[0], [1], [0, 0]] (Medusa's `medusa_choices`; the root is
 * not written down), in any order.
 *
 * @throws TreeFormatError for anything but such a tree, an orphan, a duplicate, and a rank or depth beyond `bounds`
 */
export function staticTreeFromPaths(paths: unknown, bounds: StaticTreeBounds): StaticTree {
  return arrange(checkPaths(paths, bounds));
}

/** The paths of ranks of a static tree, in row order: the content of a tree file. */
export function staticTreePaths(shape: StaticTree): number[][] {
  const paths: number[][] = [[]];
  for (let row = 1; row < shape.size; row++) {
    paths.push([...paths[shape.parents[row]], shape.ranks[row]]);
  }
  return paths.slice(1);
}

/**
 * Medusa's static tree for heads of known accuracy: the dynamic tree's search with constant marginals.
 *
 * @param accuracies [heads][ranks] how often the token turned out to be the head's candidate of that rank
 * @param limits nodes, and the depth (heads used)
 * @param topM candidates to be used of each head
 */
export function searchStaticTree(
  accuracies: readonly ArrayLike<number>[],
  limits: TreeLimits,
  topM: number,
): StaticTree {
  const lists = accuracies.slice(0, limits.depth).map((list, head) => sortedRanks(list, topM, head));
  const width = lists.reduce((most, list) => Math.max(most, list.length), 0);
  const proposals: HeadProposals = {
    heads: lists.length,
    topM: width,
    // Tokens are the ranks. A head measured at fewer ranks than the widest is padded with what is no candidate.
    ids: new Int32Array(lists.length * width).fill(-1),
    probabilities: new Float32Array(lists.length * width),
  };
  lists.forEach((list, head) => {
    proposals.ids.set(list, head * width);
    proposals.probabilities.set(
      list.map((rank) => accuracies[head][rank]),
      head * width,
    );
  });
  return arrange(tokenPaths(buildTree(-1, proposals, limits)));
}

/** The paths of a tree's nodes below the root, as tokens; without those that hold a -1. */
function tokenPaths(tree: CandidateTree): number[][] {
  const paths = Array.from({ length: tree.size }, (_, row) => pathTo(tree, row).slice(1));
  return paths
    .slice(1)
    .map((path) => path.map((row) => tree.tokens[row]))
    .filter((path) => !path.includes(-1));
}

/**
 * Fills a static tree with one step's candidates, in microseconds. Under tight limits the deepest rows are left out.
 * The structure arrays of the result are shared with `shape`.
 */
export function fillStaticTree(
  shape: StaticTree,
  root: number,
  proposals: HeadProposals,
  limits: TreeLimits = { nodes: shape.size, depth: shape.depth },
): CandidateTree {
  if (proposals.heads < shape.depth || proposals.topM < shape.topM) {
    throw new RangeError(
      `The tree needs ${shape.depth} heads of ${shape.topM} candidates, ` +
        `but was given ${proposals.heads} of ${proposals.topM}.`,
    );
  }
  const size = sizeWithin(shape, limits);
  const { parents, depths, ranks } = size === shape.size ? shape : firstRows(shape, size);
  const tokens = new Int32Array(size);
  const probabilities = new Float32Array(size);
  tokens[0] = root;
  probabilities[0] = 1;
  for (let row = 1; row < size; row++) {
    const at = (depths[row] - 1) * proposals.topM + ranks[row];
    tokens[row] = proposals.ids[at];
    probabilities[row] = probabilities[parents[row]] * proposals.probabilities[at];
  }
  return { size, tokens, parents, depths, ranks, probabilities };
}

/** How many leading rows of a static tree respect `limits`. Shallower rows come first, so any prefix is a tree. */
export function sizeWithin(shape: StaticTree, limits: TreeLimits): number {
  let size = Math.min(shape.size, limits.nodes);
  while (shape.depths[size - 1] > limits.depth) size--;
  return size;
}

function firstRows(
  { parents, depths, ranks }: StaticTree,
  size: number,
): Omit<StaticTree, 'size' | 'depth' | 'topM'> {
  return {
    parents: parents.subarray(0, size),
    depths: depths.subarray(0, size),
    ranks: ranks.subarray(0, size),
  };
}

/** Puts paths into rows: by depth, then by ranks. */
function arrange(paths: readonly (readonly number[])[]): StaticTree {
  const sorted = [...paths].sort((a, b) => a.length - b.length || compareRanks(a, b));
  const { parents, depths, ranks } = allocateTree(sorted.length + 1);
  parents[0] = ranks[0] = -1;
  const rows = new Map<string, number>([['', 0]]);
  sorted.forEach((path, index) => {
    const parent = rows.get(path.slice(0, -1).join());
    if (parent === undefined) throw orphan(path);
    if (rows.has(path.join())) throw duplicate(path);
    rows.set(path.join(), index + 1);
    parents[index + 1] = parent;
    depths[index + 1] = path.length;
    ranks[index + 1] = path[path.length - 1];
  });
  const topM = ranks.reduce((most, rank) => Math.max(most, rank + 1), 0);
  return { size: sorted.length + 1, depth: sorted.at(-1)?.length ?? 0, topM, parents, depths, ranks };
}

/** The ranks of one head, most accurate first; equal ones in ascending order. */
function sortedRanks(list: ArrayLike<number>, topM: number, head: number): number[] {
  const ranks = Array.from({ length: Math.min(list.length, topM) }, (_, rank) => rank);
  for (const rank of ranks) {
    if (list[rank] >= 0 && list[rank] <= 1) continue;
    throw new RangeError(
      `The accuracy of head ${head} at rank ${rank} is ${list[rank]}; it must lie in 0..1.`,
    );
  }
  return ranks.sort((a, b) => list[b] - list[a] || a - b);
}

function checkPaths(paths: unknown, bounds: StaticTreeBounds): number[][] {
  if (!Array.isArray(paths)) {
    throw new TreeFormatError(
      `A tree is an array of paths of ranks, [[0], [1], [0, 0]] say, not ${show(paths)}.`,
    );
  }
  if (paths.length === 0) {
    throw new TreeFormatError('The tree holds no paths. Give at least one ([[0]]), or use tree none.');
  }
  for (const path of paths as unknown[]) checkPath(path, bounds);
  return paths as number[][];
}

function checkPath(path: unknown, { heads, topM }: StaticTreeBounds): void {
  if (!Array.isArray(path) || path.length === 0) {
    throw new TreeFormatError(`Path ${show(path)} must be a non-empty array of ranks, such as [0, 2].`);
  }
  for (const rank of path as unknown[]) {
    if (!Number.isInteger(rank) || (rank as number) < 0) {
      throw new TreeFormatError(`Path ${show(path)} holds ${show(rank)}; a rank is a whole number from 0.`);
    }
    if ((rank as number) >= topM) {
      throw new TreeFormatError(
        `Path ${show(path)} holds rank ${show(rank)}, but only the top ${topM} candidates of each head are used: ` +
          `ranks go from 0 to ${topM - 1}. Remove the path or raise top-m.`,
      );
    }
  }
  if (path.length > heads) {
    throw new TreeFormatError(
      `Path ${show(path)} is ${path.length} deep, but ${heads} heads are used, one for each depth. ` +
        'Shorten the path or use more heads.',
    );
  }
}

function orphan(path: readonly number[]): TreeFormatError {
  const parent = path.slice(0, -1);
  return new TreeFormatError(
    `Path ${show(path)} has no parent: ${show(parent)} is not in the tree. Add ${show(parent)} or remove ${show(path)}.`,
  );
}

function duplicate(path: readonly number[]): TreeFormatError {
  return new TreeFormatError(`Path ${show(path)} occurs twice in the tree. Remove one of the two.`);
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((rank, depth) => rank !== b[depth]);
  return at === -1 ? 0 : a[at] - b[at];
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
