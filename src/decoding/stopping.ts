import type { StoppingCriteria, StopReason } from './types.js';

/** Ends a generation with any of the given tokens. */
export class EosCriteria implements StoppingCriteria {
  /** @param eosTokenIds none: the end of sequence is ignored */
  constructor(private readonly eosTokenIds: readonly number[]) {}

  push(token: number): StopReason | undefined {
    return this.eosTokenIds.includes(token) ? 'eos' : undefined;
  }
}

/** Ends a generation after an exact number of tokens. */
export class MaxNewTokens implements StoppingCriteria {
  /** Tokens that may still be emitted. */
  remaining: number;

  /** @throws RangeError when `most` is no whole number from 1 */
  constructor(most: number) {
    if (!Number.isInteger(most) || most < 1) {
      throw new RangeError(`maxNewTokens must be a whole number from 1, not ${most}.`);
    }
    this.remaining = most;
  }

  push(): StopReason | undefined {
    return --this.remaining <= 0 ? 'length' : undefined;
  }
}

/** Ends a generation as soon as one of several criteria does: the first in the list names the reason, later ones are not asked. */
export class StoppingCriteriaList implements StoppingCriteria {
  constructor(private readonly criteria: readonly StoppingCriteria[]) {}

  push(token: number): StopReason | undefined {
    for (const each of this.criteria) {
      const reason = each.push(token);
      if (reason !== undefined) return reason;
    }
    return undefined;
  }
}
