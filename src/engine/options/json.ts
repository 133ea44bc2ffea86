import type { ResolvedDecodingOptions } from './decodingOptions.js';

/** The key of an option in the output of `generate --json`: `topM` is `top_m`. */
export const jsonKey = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The options of a generation for `generate --json`, where what takes no part in it is shown as 1, 0 or null. */
export function optionsJson(options: ResolvedDecodingOptions): Record<string, unknown> {
  const plain = options.tree === 'none' ? { nodes: 1, headsUsed: 0, topM: 0 } : {};
  const topP = options.acceptance === 'nucleus' ? options.topP : null;
  return Object.fromEntries(
    Object.entries({ ...options, ...plain, topP })
      .filter(([name]) => name !== 'treePaths')
      .map(([name, value]) => [jsonKey(name), value]),
  );
}
