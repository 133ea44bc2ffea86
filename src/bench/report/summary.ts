/** The end of a bench run, for a terminal. */
import type { LoadedRun } from '../compare/load.js';
import type { Measures } from '../compare/measure.js';
import { describeDecoding } from './tables.js';
import { estimate, number, percent, plainTable } from './table.js';

export function benchSummary(run: LoadedRun, measures: Measures): string {
  const { ratios, oracle } = measures;
  const rows = [
    ['questions, turns', `${measures.questions}, ${measures.turns}`],
    ['new tokens', String(measures.new_tokens)],
    ['tokens per step', estimate(ratios.tokens_per_step)],
    ['tokens per inference', estimate(ratios.tokens_per_inference)],
    ['tokens/s', estimate(ratios.tokens_per_second, 1)],
    ['tokens/s without prefill', estimate(ratios.decode_tokens_per_second, 1)],
    ['first token, median', `${number(measures.median_first_token_ms, 0)} ms`],
    ['nodes per step', number(measures.nodes_per_step, 1)],
    ...(oracle ? [['oracle tokens per step', number(oracle.tokens_per_step)]] : []),
    ['time by stage', measures.stages.map(({ stage, share }) => `${stage} ${percent(share, 0)}`).join(', ')],
  ];
  return [
    `${run.folder} (${run.info.status}): ${run.info.model.id}, ${describeDecoding(run.info)}`,
    plainTable({ head: ['', ''], rows, numbersFrom: 2 })
      .split('\n')
      .slice(2)
      .join('\n'),
  ].join('\n');
}
