/** The comparison for a terminal. */
import { Chalk } from 'chalk';
import type { Report } from '../compare/report.js';
import { plainTable, type Table } from './table.js';
import {
  describeDecoding,
  describeParting,
  depthTable,
  histogramTable,
  identityTable,
  oracleTable,
  overviewTable,
  pairTable,
  setup,
  speedByCategory,
  stageTable,
  stepsByCategory,
  sweepTable,
} from './tables.js';

export function terminalReport(report: Report, stream: { isTTY?: boolean } = {}): string {
  const chalk = new Chalk({ level: stream.isTTY === true && !process.env.NO_COLOR ? 1 : 0 });
  const section = (title: string, table: Table | undefined): string[] =>
    table === undefined || table.rows.length === 0 ? [] : [`${chalk.bold(title)}\n${plainTable(table)}`];
  const differences = report.identity.flatMap(({ run, partings }) =>
    partings.slice(0, 3).map((parting) => describeParting(run, report.base, parting)),
  );
  return [
    ...[setup(report).join('\n')],
    report.runs.map((run) => `${run.name}: ${describeDecoding(run)}`).join('\n'),
    ...section('Outputs at temperature 0', identityTable(report)),
    ...(differences.length > 0 ? [chalk.red(differences.join('\n'))] : []),
    ...section('Overall', overviewTable(report)),
    ...section('Sweep', sweepTable(report)),
    ...section('Tree against tree', pairTable(report)),
    ...(report.sweep
      ? []
      : [
          ...section('Tokens per step by category', stepsByCategory(report)),
          ...section(`Speed-up over ${report.base} by category`, speedByCategory(report)),
          ...section('Tokens added by a step', histogramTable(report)),
          ...section('Acceptance by depth', depthTable(report)),
          ...section('Oracle: every combination of the candidates in the tree', oracleTable(report)),
          ...section('Time by stage', stageTable(report)),
        ]),
    ...(report.notes.length > 0
      ? [report.notes.map((note) => chalk.yellow(`Note: ${note}`)).join('\n')]
      : []),
    chalk.bold(report.claim),
  ].join('\n\n');
}
