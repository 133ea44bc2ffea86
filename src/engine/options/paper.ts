import { isDeepStrictEqual } from 'node:util';
import { UsageError } from '../../util/errors.js';
import type { DecodingOptions } from './decodingOptions.js';

/** What `paper` stands for: the tree of the MEDUSA-Plus paper, as its code builds it. */
export const paperTree = {
  tree: 'dynamic',
  joint: 'product',
  marginals: 'top-m',
  draft: ['heads'],
} as const satisfies DecodingOptions;

/**
 * Replaces `paper` by what it stands for.
 *
 * @throws UsageError when another option contradicts it
 */
export function expandPaper({ paper, ...options }: DecodingOptions): DecodingOptions {
  if (!paper) return options;
  const names = Object.keys(paperTree) as (keyof typeof paperTree)[];
  const contradicting = names.find(
    (name) => !isDeepStrictEqual(options[name] ?? paperTree[name], paperTree[name]),
  );
  const other =
    contradicting === undefined
      ? options.treePaths && 'a tree file'
      : `${contradicting} ${String(options[contradicting])}`;
  if (other === undefined) return { ...options, ...paperTree };
  const meaning = names.map((name) => `${name} ${String(paperTree[name])}`).join(', ');
  throw new UsageError(
    `paper (--paper) stands for ${meaning}; it does not go with ${other}. Leave one of the two out.`,
  );
}
