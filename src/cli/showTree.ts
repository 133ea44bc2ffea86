import type { ChalkInstance } from 'chalk';
import { drawTree } from '../decoding/tree/drawTree.js';
import type { CandidateTree, DecodeStep } from '../decoding/types.js';
import { onTerminal, styled, TerminalText } from '../util/terminalText.js';

/** What the printer needs of a tokenizer. */
export interface Labeller {
  label(id: number): string;
}

/** Draws the steps of a generation: each tree with tokens and path probabilities, the accepted path marked. */
export class TreePrinter {
  constructor(
    private readonly tokenizer: Labeller,
    private readonly colors: ChalkInstance,
  ) {}

  draw(step: DecodeStep): TerminalText {
    const added = step.tokens.map((token) => this.show(token)).join(' ');
    if (step.tree === undefined) return onTerminal`prefill: ${added}\n`;
    const { tree, accepted } = step;
    const nodes = tree.size === 1 ? '1 node' : `${tree.size} nodes`;
    const title = `step ${step.index}: ${nodes}, ${step.tokens.length} tokens added: ${added}`;
    const drawing = drawTree(tree, {
      accepted,
      label: (row, isAccepted) => this.label(tree, row, isAccepted),
    });
    // Lines and branches around labels that are visible already.
    return onTerminal`${styled(this.colors.bold, title)}\n${new TerminalText(drawing)}\n`;
  }

  private label(tree: CandidateTree, row: number, isAccepted: boolean): string {
    const percent = `${(100 * tree.probabilities[row]).toFixed(1)}%`;
    const text = this.show(tree.tokens[row]);
    const shown = isAccepted
      ? styled(this.colors.green, `${text} ${percent} ✓`)
      : onTerminal`${text} ${styled(this.colors.dim, percent)}`;
    return shown.text;
  }

  /** Quoted, so that spaces, line breaks and control characters can be seen. */
  private show(token: number): string {
    return JSON.stringify(this.tokenizer.label(token));
  }
}
