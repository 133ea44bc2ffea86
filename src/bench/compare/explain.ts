/** Looks into a difference between outputs: both continuations as text, and how close the two tokens were. */
import type { IdentityResult, Mismatch } from './identity.js';
import type { Comparison } from './load.js';

/** A model that can be asked about a prefix. */
export interface Inspector {
  /** Next-token logits after `ids`. */
  nextLogits(ids: readonly number[]): Promise<Float32Array>;
  decode(ids: readonly number[]): string;
  /** SHA-256 of its backbone as run.json has it. */
  readonly backbone: string | null;
  dispose(): Promise<void>;
}

/** Differences explained per run; the first ones, for each takes a prefill. */
const MOST = 3;
/** Tokens shown before the difference. */
const CONTEXT = 16;

/**
 * Fills in `explained` of the first differences of each run. A model that cannot be opened or is another one is
 * reported in words: the difference itself stands without it.
 */
export async function explainMismatches(
  identity: readonly IdentityResult[],
  comparison: Comparison,
  open: () => Promise<Inspector>,
): Promise<string[]> {
  let inspector: Inspector;
  try {
    inspector = await open();
  } catch (error) {
    return [`Logit gaps are not given: the model could not be opened (${(error as Error).message}).`];
  }
  try {
    const base = comparison.runs[0].info.model.backbone_sha256;
    if (inspector.backbone !== base)
      return ['Logit gaps are not given: the model on this machine is another one.'];
    for (const { mismatches } of identity) {
      for (const mismatch of mismatches.slice(0, MOST))
        mismatch.explained = await explain(mismatch, comparison, inspector);
    }
    return [];
  } finally {
    await inspector.dispose();
  }
}

async function explain(
  mismatch: Mismatch,
  comparison: Comparison,
  inspector: Inspector,
): Promise<NonNullable<Mismatch['explained']>> {
  const { common, continuations, tokens } = mismatch;
  const texts = [inspector.decode(continuations[0]), inspector.decode(continuations[1])] as const;
  const before = inspector.decode(common.slice(-CONTEXT));
  const [a, b] = tokens;
  if (a === null || b === null) return { texts, before };
  const turn = comparison.runs[0].records.get(mismatch.question_id)!.repeats[mismatch.repeat].turns[
    mismatch.turn
  ];
  const logits = await inspector.nextLogits([...turn.prompt_token_ids, ...common]);
  return { texts, before, logits: [logits[a], logits[b]], gap: Math.abs(logits[a] - logits[b]) };
}
