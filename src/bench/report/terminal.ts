/** Reports for a terminal. */
import { Chalk } from 'chalk';
import { joinText, onTerminal, styled, type TerminalText } from '../../util/terminalText.js';
import type { LoadedRun } from '../compare/load.js';
import type { Measures } from '../compare/measure.js';
import type { Report } from '../compare/report.js';
import { differences, sections } from './sections.js';
import { estimate, number, percent, plainTable } from './table.js';
import { describeDecoding, setup } from './tables.js';

/** A comparison: the tables without their notes, and of a sweep only the figures. */
export function terminalReport(report: Report, stream: { isTTY?: boolean } = {}): TerminalText {
  const chalk = new Chalk({ level: stream.isTTY === true && !process.env.NO_COLOR ? 1 : 0 });
  const [identity, ...rest] = sections(report)
    .filter(({ detail }) => !(detail && report.sweep))
    .map(({ title, table }) => onTerminal`${styled(chalk.bold, title)}\n${plainTable(table)}`);
  const differing = differences(report);
  const notes = report.notes.map((note) => styled(chalk.yellow, `Note: ${note}`));
  return joinText(
    [
      setup(report).join('\n'),
      report.runs.map((run) => `${run.name}: ${describeDecoding(run)}`).join('\n'),
      identity,
      ...(differing.length > 0 ? [styled(chalk.red, differing.join('\n'))] : []),
      ...rest,
      ...(notes.length > 0 ? [joinText(notes, '\n')] : []),
      styled(chalk.bold, report.claim),
    ],
    '\n\n',
  );
}

/** The end of a bench run. */
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
