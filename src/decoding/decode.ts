import { areFinite, checkLogits, NotFiniteError } from './notFinite.js';
import { prefill } from './prefill.js';
import { summarize, type GenerationFacts } from './statistics.js';
import { EosCriteria, MaxNewTokens, StoppingCriteriaList } from './stopping.js';
import { Stopwatch } from './stopwatch.js';
import type {
  Acceptance,
  AcceptedPath,
  CandidateTree,
  DecodeStatistics,
  DecodeStep,
  DraftingModel,
  StoppingCriteria,
  TreePolicy,
} from './types.js';

/** What the loop needs to know, all of it decided: `DecodingOptions` are what a user asks for. */
export interface LoopOptions {
  readonly policy: TreePolicy;
  readonly acceptance: Acceptance;
  /** Exact: an accepted path is cut when it reaches this many new tokens; >= 1. */
  readonly maxNewTokens: number;
  /** Tokens that end the generation; none by default. */
  readonly eosTokenIds?: readonly number[];
  /** Further criteria, stop strings say. Not shown EOS tokens. */
  readonly stopping?: StoppingCriteria;
  /**
   * The tokens whose positions are cached now, such as the last result's `cachedTokens`. The longest common prefix
   * with the prompt is not computed again. Without it the cache is emptied first.
   */
  readonly cachedTokens?: readonly number[];
  /** Milliseconds from any origin. */
  readonly clock: () => number;
  /** Told how many of the prompt tokens that were not cached have been run, after each part of a long prompt. */
  readonly onPrompt?: (done: number, of: number) => void;
  /** Ends the generation after the step, or the part of a long prompt, that is running; finish reason `aborted`. */
  readonly signal?: AbortSignal;
}

export interface DecodeResult extends DecodeStatistics {
  /** All new tokens, the one that ended the generation (EOS, say) included. */
  readonly tokens: readonly number[];
  /** The tokens whose positions are cached now, for the next call. */
  readonly cachedTokens: readonly number[];
}

/**
 * Generates after `promptIds`, yielding the prefill's token as step 0 and then each verification step.
 * Plain decoding is the same loop with one-node trees.
 *
 * The root of each tree is emitted already: it is the bonus of the step before. So a step adds as many tokens as it
 * accepts rows: the nodes after the root, and the next bonus. Leaving the iteration early forgets what is cached;
 * abort instead where the cache is to be used again.
 *
 * Logits that are not finite are noticed after the prompt, whatever the acceptance, and wherever it reads them later; models
 * notice what they see themselves.
 *
 * @throws RangeError when `maxNewTokens` is none, and what the model says of a prompt that is empty or longer than its context
 * @throws NotFiniteError when the backbone or the heads do not give finite numbers
 */
export async function* decode(
  model: DraftingModel,
  promptIds: readonly number[],
  options: LoopOptions,
): AsyncGenerator<DecodeStep, DecodeResult> {
  const { policy, acceptance, signal } = options;
  const wanted = { logits: acceptance.needsLogits && ('by row' as const) };
  const length = new MaxNewTokens(options.maxNewTokens);
  const eos = new EosCriteria(options.eosTokenIds ?? []);
  const stopping = new StoppingCriteriaList([eos, ...(options.stopping ? [options.stopping] : []), length]);
  const stopwatch = new Stopwatch(options.clock);
  const steps: DecodeStep[] = [];
  const text = [...promptIds];
  const cachedPromptTokens = reuseCache(model, promptIds, options.cachedTokens ?? []);

  // The last row's logits are asked for in any case: once a generation, to be checked.
  const rest = promptIds.slice(cachedPromptTokens);
  const result = await prefill(model, rest, { ...options, logits: 'by row' });
  if (result) {
    checkLogits(result, 0);
    const ended = cutAtStop([acceptance.firstToken(result)], stopping);
    text.push(...ended.tokens);
    steps.push({ index: 0, times: stopwatch.prefilled(), ...ended, ...ifContextEnds(model, ended) });
    yield steps[0];
  } else {
    // Aborted: what was read took its time, too.
    stopwatch.prefilled();
  }
  while (!signal?.aborted && !steps.at(-1)?.finishReason) {
    const times = stopwatch.nextStep();
    const limits = { nodes: model.contextLength - model.cachedLength, depth: length.remaining - 1 };
    const root = text.at(-1)!;

    const topM = policy.wantedTopM(limits);
    const proposals = topM > 0 ? await model.propose(topM, root) : undefined;
    if (proposals && !areFinite(proposals.probabilities)) await findNotFinite(model, text);
    stopwatch.lap('heads');
    const tree = policy.build(root, proposals, limits, text);
    stopwatch.lap('tree');
    const verified = await model.verify(tree, wanted);
    stopwatch.lap('backbone');
    const accepted = acceptance.accept(tree, verified);
    stopwatch.lap('accept');
    const ended = cutAtStop(emittedTokens(tree, accepted), stopping);
    stopwatch.lap('rest');
    // The row of the last emitted token is kept too when it has one: the next turn's prompt may repeat it.
    await model.keep(accepted.rows.slice(0, ended.tokens.length + 1));
    stopwatch.lap('keep');

    policy.observe({ tree, ...accepted, nextTokens: verified.nextTokens, text, times });
    text.push(...ended.tokens);
    const drafted = { tree, accepted, proposals, times };
    steps.push({ index: steps.length, ...drafted, ...ended, ...ifContextEnds(model, ended) });
    yield steps[steps.length - 1];
  }
  return resultOf(model, promptIds, steps, {
    promptTokens: promptIds.length,
    cachedPromptTokens,
    finishReason: steps.at(-1)?.finishReason ?? 'aborted',
    ...stopwatch.total(),
  });
}

/**
 * Cuts the cache to its longest common prefix with the prompt, less one token where that would be the whole prompt:
 * the last token is computed again for its result.
 *
 * @returns how many prompt tokens stay cached
 */
function reuseCache(model: DraftingModel, prompt: readonly number[], cached: readonly number[]): number {
  const most = Math.min(prompt.length - 1, cached.length, model.cachedLength);
  let common = 0;
  while (common < most && prompt[common] === cached[common]) common++;
  model.truncate(common);
  return common;
}

/**
 * Heads that give no numbers may have been given none: the last cached token is run again, and its logits tell.
 *
 * @param text the tokens so far, as far as they are cached at least
 */
async function findNotFinite(model: DraftingModel, text: readonly number[]): Promise<never> {
  const last = model.cachedLength - 1;
  model.truncate(last);
  checkLogits(await model.prefill([text[last]], { logits: 'by row' }), 0);
  throw new NotFiniteError('heads', 'The probabilities of the heads are not finite numbers.');
}

/** The tokens of the accepted nodes after the root, and the bonus. */
function emittedTokens(tree: CandidateTree, accepted: AcceptedPath): number[] {
  const tokens = accepted.rows.slice(1).map((row) => tree.tokens[row]);
  tokens.push(accepted.bonus);
  return tokens;
}

type Ending = Pick<DecodeStep, 'tokens' | 'finishReason'>;

/** `tokens` up to and with the first that ends the generation. */
function cutAtStop(tokens: readonly number[], stopping: StoppingCriteria): Ending {
  for (let i = 0; i < tokens.length; i++) {
    const finishReason = stopping.push(tokens[i]);
    if (finishReason) return { tokens: tokens.slice(0, i + 1), finishReason };
  }
  return { tokens };
}

/** A full cache has no room for the next root, so what follows its last token cannot be known. */
function ifContextEnds(model: DraftingModel, ended: Ending): Pick<DecodeStep, 'finishReason'> {
  const full = model.cachedLength >= model.contextLength;
  return { finishReason: ended.finishReason ?? (full ? 'context' : undefined) };
}

function resultOf(
  model: DraftingModel,
  promptIds: readonly number[],
  steps: readonly DecodeStep[],
  facts: GenerationFacts,
): DecodeResult {
  const tokens = steps.flatMap((step) => step.tokens);
  const cachedTokens = [...promptIds, ...tokens].slice(0, model.cachedLength);
  return { ...summarize(steps, facts), tokens, cachedTokens };
}
