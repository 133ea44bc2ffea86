/** The comparison as Markdown. */
import type { Report } from '../compare/report.js';
import { bulletList, code, codeBlock, inMarkdown, joinMarkdown, markdownTable } from './markdownText.js';
import { differences, sections } from './sections.js';
import { describeDecoding, setup } from './tables.js';

export function markdownReport(report: Report): string {
  const [identity, ...rest] = sections(report).map(({ title, table, note }) =>
    joinMarkdown(
      [inMarkdown`## ${title}`, markdownTable(table), ...(note === undefined ? [] : [inMarkdown`${note}`])],
      '\n\n',
    ),
  );
  const differing = differences(report);
  const command = String(report.runs[0].environment.command ?? '');
  const blocks = [
    inMarkdown`# Comparison`,
    inMarkdown`**${report.claim}**`,
    bulletList(setup(report)),
    bulletList(report.runs.map((run) => inMarkdown`${code(run.name)}: ${describeDecoding(run)}`)),
    ...(command === '' ? [] : [inMarkdown`Command: ${code(`medusa-plus ${command}`)}`]),
    ...(report.notes.length > 0 ? [bulletList(report.notes.map((note) => inMarkdown`Note: ${note}`))] : []),
    identity,
    ...(differing.length > 0 ? [codeBlock(differing.join('\n'))] : []),
    ...rest,
  ];
  return inMarkdown`${joinMarkdown(blocks, '\n\n')}\n`.text;
}
