/** The comparison for a terminal: the tables without their notes, and of a sweep only the figures. */
import { Chalk } from 'chalk';
import { joinText, onTerminal, styled, type TerminalText } from '../../util/terminalText.js';
import type { Report } from '../compare/report.js';
import { differences, sections } from './sections.js';
import { plainTable } from './table.js';
import { describeDecoding, setup } from './tables.js';

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
