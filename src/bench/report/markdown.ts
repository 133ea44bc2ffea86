/** The comparison as Markdown. */
import type { Report } from '../compare/report.js';
import { PUBLISHED_NOTE, publishedTable } from './published.js';
import { markdownTable, type Table } from './table.js';
import {
  describeDecoding,
  describeParting,
  depthTable,
  headTable,
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

export function markdownReport(report: Report): string {
  const section = (title: string, table: Table | undefined): string[] =>
    table === undefined || table.rows.length === 0 ? [] : [`## ${title}`, markdownTable(table)];
  const differences = report.identity.flatMap(({ run, partings }) =>
    partings.slice(0, 3).map((parting) => describeParting(run, report.base, parting)),
  );
  const command = String(report.runs[0].environment.command ?? '');
  return `${[
    '# Comparison',
    `**${report.claim}**`,
    list(setup(report)),
    list(report.runs.map((run) => `\`${run.name}\`: ${describeDecoding(run)}`)),
    ...(command === '' ? [] : [`Command: \`medusa-plus ${command}\``]),
    ...(report.notes.length > 0 ? [list(report.notes.map((note) => `Note: ${note}`))] : []),
    ...section('Outputs at temperature 0', identityTable(report)),
    ...(differences.length > 0 ? [`\`\`\`text\n${differences.join('\n')}\n\`\`\``] : []),
    ...section('Overall', overviewTable(report)),
    COUNTING,
    ...section('Sweep', sweepTable(report)),
    ...section('Tree against tree', pairTable(report)),
    ...beside(report),
    ...section('Tokens per step by category', stepsByCategory(report)),
    ...section(`Speed-up over ${report.base} by category`, speedByCategory(report)),
    ...section('Tokens added by a step', histogramTable(report)),
    ...section('Acceptance by depth', depthTable(report)),
    ...section('Heads: where the token that came stood in the list', headTable(report)),
    ...section('Oracle: every combination of the candidates in the tree', oracleTable(report)),
    ...section('Time by stage', stageTable(report)),
  ].join('\n\n')}\n`;
}

function beside(report: Report): string[] {
  const table = publishedTable(report);
  return table ? ['## Beside MEDUSA-Plus', markdownTable(table), PUBLISHED_NOTE] : [];
}

const COUNTING =
  'Tokens per step: tokens added by verification steps / steps, the prefill and its token left out. Tokens per ' +
  'inference: all new tokens / (steps + 1 prefill per turn). Tokens/s: all new tokens / wall time, prefill included. ' +
  'All ratios are of sums over all turns; tokens are counted as ids.';

function list(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n');
}
