import { ModelError } from '../util/errors.js';
import { summary } from './messages.js';
import type { CacheLayout, HeadsFile, ModelShape } from './spec.js';

/** Names of a graph's inputs and outputs (docs/architecture.md). */
export interface GraphInterface {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/**
 * `token` is read by heads that know the next tree's root; `context` (hidden terms) comes with heads whose conditional
 * table takes part of its queries from the hidden state.
 */
export function headsInterface({
  contextSize,
  readsToken,
}: Pick<HeadsFile, 'contextSize' | 'readsToken'>): GraphInterface {
  const inputs = ['hidden', 'row', 'top_m'];
  const outputs = ['top_ids', 'top_probs'];
  return {
    inputs: readsToken ? [...inputs, 'token'] : inputs,
    outputs: contextSize === undefined ? outputs : [...outputs, 'context'],
  };
}

export const KEEP_INTERFACE: GraphInterface = {
  inputs: ['cache', 'rows', 'write_indices'],
  outputs: ['cache_out'],
};

export function backboneInterface(layout: CacheLayout, { layers }: ModelShape): GraphInterface {
  const inputs = ['input_ids', 'position_ids', 'attention_bias', 'output_rows'];
  const outputs = ['next_tokens', 'logits', 'hidden'];
  const each = (name: string): string[] => Array.from({ length: layers }, (_, layer) => `${name}.${layer}`);
  if (layout === 'split') {
    return {
      inputs: [...inputs, 'want_logits', ...each('past_key'), ...each('past_value')],
      outputs: [...outputs, 'new_kv'],
    };
  }
  return {
    inputs: [...inputs, 'seqlens_k', 'total_sequence_length', ...each('cache_key'), ...each('cache_value')],
    outputs: [...outputs, ...each('cache_key_out'), ...each('cache_value_out')],
  };
}

/**
 * Checks that a loaded graph is the one that is expected.
 *
 * @throws ModelError when a name that the runtime binds is missing, or the graph wants one that is unknown
 */
export function requireInterface(
  path: string,
  graph: { readonly inputNames: readonly string[]; readonly outputNames: readonly string[] },
  expected: GraphInterface,
): void {
  const missing = [
    ...expected.inputs.filter((name) => !graph.inputNames.includes(name)).map((name) => `input ${name}`),
    ...expected.outputs.filter((name) => !graph.outputNames.includes(name)).map((name) => `output ${name}`),
  ];
  const unknown = graph.inputNames.filter((name) => !expected.inputs.includes(name));
  if (missing.length === 0 && unknown.length === 0) return;
  const found = [
    missing.length > 0 ? `it lacks ${summary(missing)}` : '',
    unknown.length > 0 ? `it wants the unknown inputs ${summary(unknown)}` : '',
  ];
  throw new ModelError(
    `${path} is not the graph that is needed here: ${found.filter(Boolean).join(' and ')}. Check that it belongs to this model.`,
  );
}
