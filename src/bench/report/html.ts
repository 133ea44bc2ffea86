/** The comparison as one HTML file: nothing is loaded from anywhere, and nothing runs but the page's own script. */
import { createHash } from 'node:crypto';
import { baseline, fastestRun } from '../compare/claim.js';
import type { LoadedRun } from '../compare/load.js';
import type { Report } from '../compare/report.js';
import type { Estimate } from '../compare/statistics.js';
import { Html, htmlOf, inHtml, type HtmlContent } from './page/html.js';
import { pageData, type PageData } from './pageData.js';
import { pageFile, pageScript } from './pageFiles.js';
import { differences, sections } from './sections.js';
import { counted, number, times, type Table } from './table.js';
import { describeDecoding, ignoresEos, setup } from './tables.js';

export function htmlReport(report: Report, runs: readonly LoadedRun[]): string {
  const data = pageData(report, runs);
  const script = pageScript();
  const contents: Readonly<Record<string, HtmlContent>> = {
    'page.css': inHtml`<style>${unescaped(pageFile('page.css'))}</style>`,
    'page.js': inHtml`<script>${unescaped(script)}</script>`,
    data: unescaped(JSON.stringify(data).replace(/</g, '\\u003c')),
    policy: policy(script),
    ...texts(report),
    ...tables(report),
    ...keys(report, data),
    generations: turnOptions(data.generations),
    traces: turnOptions(data.traces),
  };
  return pageFile('page.html')
    .replace(/ *<section id="(.*?)">.*?<\/section>\n/gs, (section, id: string) =>
      isShown(id, report, data) ? section : '',
    )
    .replace(PLACES, (_, ...names: (string | undefined)[]) => {
      const name = names.find((each) => each !== undefined)!;
      if (!Object.hasOwn(contents, name)) throw new Error(`page.html: there is nothing to put for ${name}`);
      return htmlOf(contents[name]);
    });
}

/** Where the template is filled: {{name}}, and the elements that load its other files. */
const PLACES = /\{\{(\w+)\}\}|<link [^>]*href="(page\.css)"[^>]*>|<script src="(page\.js)"><\/script>/g;

function isShown(section: string, report: Report, data: PageData): boolean {
  switch (section) {
    case 'sweep':
      return report.sweep !== null;
    case 'categories':
    case 'acceptance':
      return report.sweep === null;
    case 'along':
      return data.generations.length > 0;
    case 'steps':
      return data.traces.length > 0;
    case 'no-steps':
      return data.traces.length === 0;
    case 'published':
      return sections(report).some(({ id }) => id === section);
    default:
      return true;
  }
}

/** No network, no frames, no forms, and of scripts only ours: what the escaping is for, once more. */
function policy(script: string): string {
  const hash = createHash('sha256').update(script).digest('base64');
  return (
    `default-src 'none'; script-src 'sha256-${hash}'; style-src 'unsafe-inline'; ` +
    "base-uri 'none'; form-action 'none'"
  );
}

/** The content of a script or style element, in which nothing is unescaped; it must not hold what would end it. */
function unescaped(text: string): Html {
  if (/<!--|<\/?(script|style)/i.test(text)) throw new Error('This text would end its element.');
  return new Html(text);
}

function texts(report: Report): Record<string, HtmlContent> {
  // The claim's first sentence is the headline.
  const [headline, ...claim] = report.claim.split(/(?<=\.) (?=[A-Z])/);
  const [{ environment, model, machine }] = report.runs;
  const command = String(environment.command ?? '');
  return {
    names: report.runs
      .slice(0, 4)
      .map(({ name }) => name)
      .join(', '),
    date: report.made.slice(0, 10),
    headline: marked(headline),
    claim: marked(claim.join(' ')),
    setup: list('setup', setup(report)),
    cards: [...cards(report), identityCard(report)],
    base: baseline(report),
    parameter: report.sweep?.parameter,
    costSetting: `${model.precision} on ${model.provider}, ${counted(machine.threads, 'thread')}`,
    runs: list(
      'notes',
      report.runs.map((run) => `${run.name}: ${describeDecoding(run)}`),
    ),
    notes: report.notes.length > 0 ? [inHtml`<h3>Notes</h3>`, list('notes', report.notes)] : '',
    counted: ignoresEos(report)
      ? 'Turns go on after EOS (--ignore-eos): what comes after it is counted, too.'
      : 'EOS is counted, nothing after it.',
    made: report.made,
    version: report.version,
    questions: report.questions.sha256,
    command: command === '' ? '' : inHtml`Command: <code>medusa-plus ${command}</code>`,
  };
}

function tables(report: Report): Record<string, HtmlContent> {
  const all = new Map(sections(report).map((section) => [section.id, section]));
  const tableOf = (id: string, names?: number): HtmlContent => {
    const section = all.get(id);
    return section && tableHtml(section.table, names);
  };
  /** With its title, where there is such a section. */
  const panel = (id: string): HtmlContent =>
    all.has(id) ? inHtml`<div class="panel"><h3>${all.get(id)!.title}</h3>${tableOf(id)}</div>` : '';
  const differing = differences(report);
  return {
    identityTable: tableOf('identity'),
    mismatches: differing.length > 0 ? inHtml`<pre>${differing.join('\n\n')}</pre>` : '',
    sweepTable: tableOf('sweep', 2),
    overviewTable: tableOf('overview'),
    pairs: panel('pairs'),
    endingsTitle: all.get('endings')?.title,
    endingsNote: all.get('endings')?.note,
    endingsTable: tableOf('endings'),
    acceptanceTables: ['heads', 'oracle', 'depths'].map(panel),
    stages: report.sweep ? '' : panel('stages'),
    publishedNote: all.get('published')?.note,
    publishedTable: tableOf('published'),
  };
}

/** What the colours of the charts mean. */
function keys(report: Report, data: PageData): Record<string, HtmlContent> {
  const series = [...new Set(report.sweep?.points.map((point) => point.series))];
  const { stages, cost_curve } = report.runs[0];
  return {
    key: list(
      'key',
      data.runs.slice(1).map((name, index) => coloured('run', (index + 1) % 8, name)),
    ),
    sweepKey: list(
      'key',
      [report.base, ...series].map((name, index) => coloured('run', index % 8, name)),
    ),
    stageKey: list(
      'key',
      stages.map(({ stage }, index) => coloured('stage', index, stage)),
    ),
    costKey: list('key', [
      coloured('run', 1, 'backbone run, as the runs saw it'),
      ...(cost_curve === null ? [] : [coloured('run', 7, 'measured before the run')]),
    ]),
  };
}

function coloured(kind: 'run' | 'stage', index: number, name: string): Html {
  return inHtml`<i style="background:var(--${kind}-${index})"></i>${name}`;
}

/** Figures in bold with their intervals in grey, and what nobody may miss in red. */
function marked(text: string): Html[] {
  return text.split(/(\d+\.\d\dx|(?<=\dx) \[[^\]]*\]|OUTPUTS DIFFER)/).map((part, index) => {
    if (index % 2 === 0) return inHtml`${part}`;
    if (part === 'OUTPUTS DIFFER') return inHtml`<strong class="alarm">${part}</strong>`;
    return part.startsWith(' ') ? inHtml`<span class="quiet">${part}</span>` : inHtml`<b>${part}</b>`;
  });
}

function list(name: string, items: readonly HtmlContent[]): Html {
  return inHtml`<ul class="${name}">${items.map((item) => inHtml`<li>${item}</li>`)}</ul>`;
}

/** Static and dynamic at two sizes; the table below has all runs. */
const mostCards = 4;

function cards(report: Report): Html[] {
  if (report.sweep) return [fastest(report)];
  return report.runs
    .filter((run) => run.over_base !== null)
    .slice(0, mostCards)
    .flatMap((run) => [
      card(`${run.name}: tokens per step`, run.ratios.tokens_per_step, number),
      card(`${run.name}: speed over ${report.base}`, run.over_base!.tokens_per_second, times),
    ]);
}

function fastest(report: Report): Html {
  const best = fastestRun(report.runs);
  if (best === undefined) return inHtml``;
  const speed = best.over_base.tokens_per_second;
  const what = speed.value > 1 ? 'fastest' : `nearest to ${report.base}`;
  return card(`${what}: ${best.name}`, speed, times);
}

function card(name: string, value: Estimate, show: (value: number) => string): Html {
  const range = Number.isFinite(value.low)
    ? `95%: ${number(value.low)} to ${number(value.high)}`
    : 'no interval';
  return boxed('card', name, show(value.value), range);
}

function identityCard({ identity }: Report): Html {
  const name = 'outputs at temperature 0';
  const checked = identity.filter(({ outcome }) => outcome !== 'not-checked');
  if (checked.length === 0) return boxed('card', name, '-', 'not checked');
  const tokens = checked.reduce((sum, result) => sum + result.tokens, 0);
  const mismatches = checked.reduce((sum, result) => sum + result.mismatches.length, 0);
  return checked.every(({ outcome }) => outcome === 'same')
    ? boxed(
        'card good',
        name,
        checked.every(({ isSure }) => isSure) ? 'identical' : 'no difference',
        `${counted(tokens, 'token')} compared`,
      )
    : boxed(
        'card bad',
        name,
        'differ',
        mismatches === 1 ? '1 conversation differs' : `${mismatches} conversations differ`,
      );
}

function boxed(kind: string, name: string, figure: string, range: string): Html {
  return inHtml`<div class="${kind}">${[
    inHtml`<div class="name">${name}</div>`,
    inHtml`<div class="figure">${figure}</div>`,
    inHtml`<div class="range">${range}</div>`,
  ]}</div>`;
}

/** Turns to choose from. */
function turnOptions(turns: readonly { question: string; category: string; turn: number }[]): Html[] {
  return turns.map(
    ({ question, category, turn }, index) =>
      inHtml`<option value="${index}">${question} ${category}, turn ${turn}</option>`,
  );
}

function tableHtml({ head, rows, numbersFrom = 1 }: Table, names = numbersFrom): Html {
  const kind = (column: number): Html => (column < names ? inHtml` class="name"` : inHtml``);
  const titles = head.map((text, column) => inHtml`<th${kind(column)}>${text}</th>`);
  const lines = rows.map(
    (row) => inHtml`<tr>${row.map((text, column) => inHtml`<td${kind(column)}>${text}</td>`)}</tr>`,
  );
  return inHtml`<div class="scroll"><table><thead><tr>${titles}</tr></thead><tbody>${lines}</tbody></table></div>`;
}
