import type { CandidateTree } from '../types.js';
import { Evidence } from './evidence.js';
import { RecycledTokens } from './recycledTokens.js';
import { longestRun, RunIndex } from './runIndex.js';

/** What a memory holds, as arrays. */
export interface DraftMemoryContents {
  /** Token ids of conversations that ended. */
  readonly earlier: Int32Array;
  /** `RecycledTokens.entries()`. */
  readonly recycled: Int32Array;
  /** `Evidence.weights`. */
  readonly weights: Float64Array;
}

/**
 * What drafts are made of beside heads: the text of the conversation, what the model preferred where, and how far each of
 * them was right. Belongs to one model and one user; it holds fragments of their texts.
 */
export class DraftMemory {
  /** The text so far: prompt and answer. */
  readonly conversation = new RunIndex();
  /** Texts of conversations before it, where they are to be copied from. */
  readonly earlier: RunIndex | undefined;
  readonly recycled = new RecycledTokens();
  readonly evidence: Evidence;

  /** @param options `earlier`: copy from conversations that ended, too; `contents`: what another memory held */
  constructor({ earlier = false, contents }: { earlier?: boolean; contents?: DraftMemoryContents } = {}) {
    this.earlier = earlier ? new RunIndex() : undefined;
    this.evidence = new Evidence(contents?.weights);
    contents?.earlier.forEach((token) => this.earlier?.append(token));
    if (contents) this.recycled.restore(contents.recycled);
  }

  /** All that is to be kept. Ends the conversation. */
  contents(): DraftMemoryContents {
    this.endConversation(0);
    return {
      earlier: this.earlier?.tokensFrom(0) ?? new Int32Array(0),
      recycled: this.recycled.entries(),
      weights: this.evidence.weights,
    };
  }

  /** Makes `text` the conversation. What it shares with the one before is kept; the rest of that becomes an earlier text. */
  follow(text: ArrayLike<number>): void {
    const { conversation } = this;
    const common = conversation.commonWith(text);
    if (common < conversation.size) this.endConversation(common);
    for (let at = conversation.size; at < text.length; at++) conversation.append(text[at]);
  }

  /** @param common how many tokens the next conversation begins with too */
  private endConversation(common: number): void {
    const { conversation, earlier } = this;
    if (earlier) {
      if (earlier.size + conversation.size > mostEarlier) halve(earlier);
      for (const token of conversation.tokensFrom(Math.max(0, common - longestRun))) earlier.append(token);
    }
    conversation.clear();
  }

  /**
   * Learns what the model would write after each node of a verified tree.
   *
   * @param before the token before the root; -1 when there is none
   * @param nextTokens [size] the model's most probable token after each row
   * @param rows the accepted rows
   */
  recycle(tree: CandidateTree, before: number, nextTokens: ArrayLike<number>, rows: readonly number[]): void {
    const { tokens, parents, size } = tree;
    const enter = (row: number): void => {
      const above = row === 0 ? before : tokens[parents[row]];
      this.recycled.observe(above, tokens[row], nextTokens[row]);
    };
    // Accepted rows come last: what is true of the text counts more than what was true of a guess.
    for (let row = 0; row < size; row++) if (!rows.includes(row)) enter(row);
    rows.forEach(enter);
  }
}

/** Tokens of earlier texts that are kept at most. */
const mostEarlier = 65_536;

/** Keeps the later half. */
function halve(index: RunIndex): void {
  const kept = index.tokensFrom(Math.floor(index.size / 2)).slice();
  index.clear();
  for (const token of kept) index.append(token);
}
