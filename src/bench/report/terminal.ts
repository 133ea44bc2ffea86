/** The comparison for a terminal: the tables without their notes, and of a sweep only the figures. */
import { Chalk } from 'chalk';
import type { Report } from '../compare/report.js';
import { differences, sections } from './sections.js';
import { plainTable } from './table.js';
import { describeDecoding, setup } from './tables.js';

export function terminalReport(report: Report, stream: { isTTY?: boolean } = {}): string {
  const chalk = new Chalk({ level: stream.isTTY === true && !process.env.NO_COLOR ? 1 : 0 });
  const [identity, ...rest] = sections(report)
    .filter(({ detail }) => !(detail && report.sweep))
    .map(({ title, table }) => `${chalk.bold(title)}\n${plainTable(table)}`);
  const differing = differences(report);
  return [
    setup(report).join('\n'),
    report.runs.map((run) => `${run.name}: ${describeDecoding(run)}`).join('\n'),
    identity,
    ...(differing.length > 0 ? [chalk.red(differing.join('\n'))] : []),
    ...rest,
    ...(report.notes.length > 0
      ? [report.notes.map((note) => chalk.yellow(`Note: ${note}`)).join('\n')]
      : []),
    chalk.bold(report.claim),
  ].join('\n\n');
}
