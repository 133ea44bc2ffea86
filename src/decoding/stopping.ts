import type { FinishReason, Stopping } from './types.js';

type StopReason = Exclude<FinishReason, 'context' | 'aborted'>;

export interface StoppingOptions {
  /** Most tokens to generate; >= 1. */
  readonly maxNewTokens: number;
  /** Ids that end the generation; empty to ignore the end of sequence. */
  readonly eosTokenIds?: readonly number[];
  /** A further check, of stop strings say. It is not shown the EOS token, which is not text. */
  readonly text?: Stopping;
}

/**
 * Ends a generation at the first of: an EOS id, the text check, the exact number of new tokens. The ending token is
 * part of the output and is counted; whether its text is shown is the text check's affair.
 */
export class TokenStopping implements Stopping {
  /** Tokens that may still be emitted. */
  remaining: number;

  constructor(private readonly options: StoppingOptions) {
    const { maxNewTokens } = options;
    if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
      throw new RangeError(`maxNewTokens must be a whole number from 1, not ${maxNewTokens}.`);
    }
    this.remaining = maxNewTokens;
  }

  push(token: number): StopReason | undefined {
    this.remaining--;
    if (this.options.eosTokenIds?.includes(token)) return 'eos';
    const reason = this.options.text?.push(token);
    if (reason !== undefined) return reason;
    return this.remaining <= 0 ? 'length' : undefined;
  }
}
