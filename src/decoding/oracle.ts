import { staticTreeFromPaths, type StaticTree } from './tree/staticTree.js';
import type { HeadProposals } from './types.js';

/**
 * What proposals could have given at best, in hindsight: the bound that any tree over the same heads stays under.
 */

/**
 * The ranks of the tokens that really followed the root: entry j is the rank of `continuation[j]` in the list of head
 * j. Ends before the first token its head did not list, so its length is the deepest acceptance any tree could reach.
 */
export function rankPath(proposals: HeadProposals, continuation: ArrayLike<number>): number[] {
  const { heads, topM, ids } = proposals;
  const path: number[] = [];
  for (let head = 0; head < Math.min(heads, continuation.length); head++) {
    const rank = ids.subarray(head * topM, (head + 1) * topM).indexOf(continuation[head]);
    if (rank === -1) break;
    path.push(rank);
  }
  return path;
}

/** Tokens a step would add if each tree held the whole listed continuation: 1 + the mean length of the paths. */
export function oracleTokensPerStep(paths: readonly (readonly number[])[]): number {
  if (paths.length === 0) return 0;
  return 1 + paths.reduce((sum, path) => sum + path.length, 0) / paths.length;
}

/**
 * The static tree of at most `nodes` nodes that would have accepted the most tokens on the recorded rank paths: the
 * most frequent prefixes. No static tree does better on them, so it bounds what choosing the tree well can give.
 */
export function bestStaticTreeInHindsight(
  paths: readonly (readonly number[])[],
  nodes: number,
): { shape: StaticTree | undefined; tokensPerStep: number } {
  const counts = new Map<string, { path: readonly number[]; count: number }>();
  for (const path of paths) {
    for (let depth = 1; depth <= path.length; depth++) countPrefix(counts, path.slice(0, depth));
  }
  // A prefix is at least as frequent as what it begins; shallower first on ties, so no orphan can arise.
  const best = [...counts.values()]
    .sort((a, b) => b.count - a.count || a.path.length - b.path.length)
    .slice(0, Math.max(0, nodes - 1));
  const accepted = best.reduce((sum, { count }) => sum + count, 0);
  return {
    shape: best.length === 0 ? undefined : unboundedTree(best.map(({ path }) => path)),
    tokensPerStep: paths.length === 0 ? 0 : 1 + accepted / paths.length,
  };
}

function countPrefix(
  counts: Map<string, { path: readonly number[]; count: number }>,
  path: readonly number[],
): void {
  const key = path.join();
  const known = counts.get(key);
  if (known) known.count++;
  else counts.set(key, { path, count: 1 });
}

function unboundedTree(paths: readonly (readonly number[])[]): StaticTree {
  return staticTreeFromPaths(paths, { heads: Infinity, topM: Infinity });
}
