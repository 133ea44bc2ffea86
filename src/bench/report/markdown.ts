/** The comparison as Markdown. */
import type { Report } from '../compare/report.js';
import { differences, sections } from './sections.js';
import { markdownTable } from './table.js';
import { describeDecoding, setup } from './tables.js';

export function markdownReport(report: Report): string {
  const [identity, ...rest] = sections(report).map(({ title, table, note }) =>
    [`## ${title}`, markdownTable(table), ...(note === undefined ? [] : [note])].join('\n\n'),
  );
  const differing = differences(report);
  const command = String(report.runs[0].environment.command ?? '');
  return `${[
    '# Comparison',
    `**${report.claim}**`,
    list(setup(report)),
    list(report.runs.map((run) => `\`${run.name}\`: ${describeDecoding(run)}`)),
    ...(command === '' ? [] : [`Command: \`medusa-plus ${command}\``]),
    ...(report.notes.length > 0 ? [list(report.notes.map((note) => `Note: ${note}`))] : []),
    identity,
    ...(differing.length > 0 ? [`\`\`\`text\n${differing.join('\n')}\n\`\`\``] : []),
    ...rest,
  ].join('\n\n')}\n`;
}

function list(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n');
}
