import { stageNames } from '../decoding/statistics.js';
import type { GenerationResult } from '../engine/engine.js';
import type { EngineFacts } from '../engine/facts.js';
import { optionsJson } from '../engine/options/json.js';
import { packageVersion } from '../util/packageRoot.js';

const seconds = (milliseconds: number): number => milliseconds / 1000;

/** New tokens per second of the whole generation, prefill included. */
export function tokensPerSecond({ statistics }: GenerationResult): number {
  return statistics.wallTime > 0 ? statistics.newTokens / seconds(statistics.wallTime) : 0;
}

/** What `--json` prints. */
export function generationJson(result: GenerationResult, facts: EngineFacts): Record<string, unknown> {
  const { statistics, options } = result;
  return {
    text: result.text,
    token_ids: result.tokenIds,
    prompt_tokens: statistics.promptTokens,
    cached_prompt_tokens: statistics.cachedPromptTokens,
    new_tokens: statistics.newTokens,
    steps: statistics.steps,
    inferences: statistics.inferences,
    tokens_per_step: statistics.tokensPerStep,
    tokens_per_inference: statistics.tokensPerInference,
    accept_lengths: statistics.acceptLengths,
    node_counts: statistics.nodeCounts,
    finish_reason: statistics.finishReason,
    wall_time_s: seconds(statistics.wallTime),
    prefill_time_s: seconds(statistics.prefillTime),
    time_to_first_token_s: statistics.newTokens > 0 ? seconds(result.timeToFirstToken) : null,
    tokens_per_second: tokensPerSecond(result),
    stage_times_s: Object.fromEntries(stageNames.map((name) => [name, seconds(statistics.times[name])])),
    ...optionsJson(options),
    model: facts.model,
    precision: facts.precision,
    heads: facts.heads ?? null,
    provider: facts.provider,
    threads: facts.threads,
    calm_threads: facts.calmThreads,
    version: packageVersion(),
  };
}

/** The line under the text: how much, how fast, and where the time went. */
export function summaryLine(result: GenerationResult, { threads, calmThreads }: EngineFacts): string {
  const { statistics: s } = result;
  const parts = [
    `${s.newTokens} ${s.newTokens === 1 ? 'token' : 'tokens'} (${s.finishReason})`,
    // The first token belongs to the prefill: without steps there is no such number.
    ...(s.steps > 0 ? [`${s.tokensPerStep.toFixed(2)} tokens/step`] : []),
    `${tokensPerSecond(result).toFixed(1)} tokens/s`,
    ...(s.newTokens > 0 ? [`first token ${result.timeToFirstToken.toFixed(0)} ms`] : []),
    ...(threads < calmThreads ? [`${threads} of ${calmThreads} threads (other programs are busy)`] : []),
  ];
  return `${parts.join(', ')}; ${timeSplit(result)}`;
}

function timeSplit({ statistics: s }: GenerationResult): string {
  const share = (milliseconds: number): string => `${((100 * milliseconds) / s.wallTime).toFixed(0)}%`;
  if (!(s.wallTime > 0)) return 'no time taken';
  return ['prefill', ...stageNames]
    .map(
      (name) => [name, name === 'prefill' ? s.prefillTime : s.times[name as keyof typeof s.times]] as const,
    )
    .map(([name, milliseconds]) => `${name} ${share(milliseconds)}`)
    .join(', ');
}
