import type { AcceptedPath, CandidateTree } from '../types.js';

export interface DrawTreeOptions {
  /** The text of one node; it should hold no line breaks. Default: token id, path probability, mark. */
  readonly label?: (row: number, isAccepted: boolean) => string;
  /** The path to mark. */
  readonly accepted?: Pick<AcceptedPath, 'rows'>;
}

/**
 * Draws a tree as text, one node a line, each node's children below it by ascending rank:
 *
 * ```
 * 4 100.0% ✓
 * ├─ 3 62.8% ✓
 * │  ├─ 2 36.1%
 * │  └─ 7 24.2% ✓
 * └─ 5 23.1%
 * ```
 */
export function drawTree(tree: CandidateTree, options: DrawTreeOptions = {}): string {
  const { label = (row, isAccepted) => defaultLabel(tree, row, isAccepted) } = options;
  const accepted = new Set(options.accepted?.rows);
  const children = childLists(tree);
  const lines: string[] = [];
  const draw = (row: number, before: string, beforeChildren: string): void => {
    lines.push(before + label(row, accepted.has(row)));
    const below = children[row];
    below.forEach((child, i) => {
      const isLast = i === below.length - 1;
      draw(child, beforeChildren + (isLast ? '└─ ' : '├─ '), beforeChildren + (isLast ? '   ' : '│  '));
    });
  };
  draw(0, '', '');
  return lines.join('\n');
}

function childLists(tree: CandidateTree): number[][] {
  const children = Array.from({ length: tree.size }, (): number[] => []);
  for (let row = 1; row < tree.size; row++) children[tree.parents[row]].push(row);
  return children;
}

function defaultLabel(tree: CandidateTree, row: number, isAccepted: boolean): string {
  const percent = (100 * tree.probabilities[row]).toFixed(1);
  return `${tree.tokens[row]} ${percent}%${isAccepted ? ' ✓' : ''}`;
}
