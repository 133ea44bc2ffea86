/** The comparison as one HTML file: nothing is loaded from anywhere. */
import type { LoadedRun } from '../compare/load.js';
import type { Report, ReportRun } from '../compare/report.js';
import type { Estimate } from '../compare/statistics.js';
import { pageScript } from './page/script.js';
import { pageStyle } from './page/style.js';
import { escapeText } from './page/text.js';
import type { PageData } from './page/types.js';
import { pageData } from './pageData.js';
import { PUBLISHED_NOTE, publishedTable } from './published.js';
import { differences } from './sections.js';
import { number, type Table } from './table.js';
import {
  depthTable,
  describeDecoding,
  headTable,
  identityTable,
  oracleTable,
  overviewTable,
  pairTable,
  setup,
  stageTable,
  sweepTable,
} from './tables.js';

export function htmlReport(report: Report, runs: readonly LoadedRun[]): string {
  const data = pageData(report, runs);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>medusa-plus: ${escapeText(
    report.runs
      .map((run) => run.name)
      .slice(0, 4)
      .join(', '),
  )}</title>
<style>${pageStyle}</style>
</head>
<body>
<main>
${header(report)}
${cards(report)}
${identity(report)}
${report.sweep ? sweepSection(report) : ''}
${overall(report)}
${report.sweep ? '' : categories(data)}
${report.sweep ? '' : acceptance(report, data)}
${report.sweep ? '' : moving(data)}
${times(report)}
${beside(report)}
${browser(data)}
${counting(report)}
</main>
<script type="application/json" id="data">${embed(data)}</script>
<script>${pageScript()}</script>
</body>
</html>
`;
}

/** JSON that cannot end the script element it stands in. */
function embed(data: PageData): string {
  return JSON.stringify(data).replace(/</g, '\\u003c');
}

/** The claim's first sentence is the headline. */
function header(report: Report): string {
  const [first, ...rest] = report.claim.split(/(?<=\.) (?=[A-Z])/);
  const marked = (text: string): string =>
    escapeText(text)
      .replace(/(\d+\.\d\dx)( \[[^\]]*\])/g, '<b>$1</b><span class="quiet">$2</span>')
      .replace(/OUTPUTS DIFFER/, '<strong class="alarm">OUTPUTS DIFFER</strong>');
  return `<header>
<h1>medusa-plus comparison, ${escapeText(report.made.slice(0, 10))}</h1>
<p class="claim">${marked(first)}</p>
<p class="more">${rest.map(marked).join(' ')}</p>
<ul class="setup">${setup(report)
    .map((line) => `<li>${escapeText(line)}</li>`)
    .join('')}</ul>
</header>`;
}

/** Static and dynamic at two sizes; the table below has all runs. */
const mostCards = 4;

function cards(report: Report): string {
  const drafting = report.runs.filter((run) => run.over_base !== null);
  const figures = report.sweep
    ? [fastest(drafting)]
    : drafting
        .slice(0, mostCards)
        .flatMap((run) => [
          card(`${run.name}: tokens per step`, run.ratios.tokens_per_step, ''),
          card(`${run.name}: speed over ${report.base}`, run.over_base!.tokens_per_second, 'x'),
        ]);
  return `<div class="cards">${figures.join('')}${identityCard(report)}</div>`;
}

function fastest(runs: readonly ReportRun[]): string {
  const best = runs.reduce((a, b) =>
    b.ratios.tokens_per_second.value > a.ratios.tokens_per_second.value ? b : a,
  );
  return card(`fastest: ${best.name}`, best.over_base!.tokens_per_second, 'x');
}

function card(name: string, value: Estimate, unit: string): string {
  const range = Number.isFinite(value.low) ? `95%: ${number(value.low)} to ${number(value.high)}` : '&nbsp;';
  return (
    `<div class="card"><div class="name">${escapeText(name)}</div>` +
    `<div class="figure">${number(value.value)}${unit}</div><div class="range">${range}</div></div>`
  );
}

function identityCard({ identity }: Report): string {
  const checked = identity.filter(({ outcome }) => outcome !== 'not-checked');
  const tokens = checked.reduce((sum, result) => sum + result.tokens, 0);
  if (checked.length === 0) {
    return '<div class="card"><div class="name">outputs at temperature 0</div><div class="figure">-</div><div class="range">not checked</div></div>';
  }
  const good = checked.every(({ outcome }) => outcome === 'same');
  const partings = checked.reduce((sum, result) => sum + result.partings.length, 0);
  return (
    `<div class="card ${good ? 'good' : 'bad'}"><div class="name">outputs at temperature 0</div>` +
    `<div class="figure">${good ? 'identical' : 'differ'}</div>` +
    `<div class="range">${good ? `${tokens} tokens compared` : `${partings} conversations part`}</div></div>`
  );
}

function identity(report: Report): string {
  const differing = differences(report);
  const shown = differing.length > 0 ? `<pre>${escapeText(differing.join('\n\n'))}</pre>` : '';
  return section(
    'Are the outputs the same?',
    `Each conversation decoded at temperature 0 is held against that of ${report.base}, token id by token id.`,
    panel(table(identityTable(report)) + shown),
  );
}

function overall(report: Report): string {
  const pairs = report.pairs.length > 0 ? panel(`<h3>Tree against tree</h3>${table(pairTable(report))}`) : '';
  return section(
    'Overall',
    'Ratios of sums over all turns, with 95% intervals from a paired bootstrap over questions.',
    panel(table(overviewTable(report))) + (pairs === '' ? '' : `<div style="height:14px"></div>${pairs}`),
  );
}

function categories(data: PageData): string {
  return section(
    'By category',
    'Whiskers are 95% intervals. The dashed line is decoding without speculation.',
    `<div class="pair">${panel(`<h3>Tokens per step</h3>${key(data, 1)}<div id="chart-steps"></div>`)}` +
      `${panel(`<h3>Speed-up over ${escapeText(data.report.base)} <small>(tokens/s)</small></h3>${key(data, 1)}<div id="chart-speed"></div>`)}</div>`,
  );
}

function acceptance(report: Report, data: PageData): string {
  const tables = [
    ['Heads: where the token that came stood in the list', headTable(report)],
    ['Oracle: every combination of the candidates in the tree', oracleTable(report)],
    ['Acceptance by depth', depthTable(report)],
  ] as const;
  return section(
    'Acceptance',
    'How many tokens a step adds (its bonus token included), and how deep into the tree the accepted path reaches.',
    `<div class="pair">${panel(`<h3>Tokens added by a step</h3>${key(data, 1)}<div id="chart-histogram"></div>`)}` +
      `${panel(`<h3>Accepted depth</h3>${key(data, 1)}<div id="chart-depth"></div>`)}` +
      tables
        .filter(([, content]) => content.rows.length > 0)
        .map(([title, content]) => panel(`<h3>${title}</h3>${table(content)}`))
        .join('') +
      '</div>',
  );
}

function moving(data: PageData): string {
  if (data.generations.length === 0) return '';
  const options = data.generations.map(
    ({ question, category, turn }, index) =>
      `<option value="${index}">${escapeText(`${question} ${category}, turn ${turn}`)}</option>`,
  );
  const windows = [8, 16, 32, 64].map((n) => `<option${n === 16 ? ' selected' : ''}>${n}</option>`);
  return section(
    'Along a generation',
    'Moving average of the tokens added by a step, against the position in the text.',
    panel(
      `<div class="controls"><label>Question <select id="moving-choice">${options.join('')}</select></label>` +
        `<label>Steps averaged <select id="moving-window">${windows.join('')}</select></label></div>` +
        `${key(data, 1)}<div id="chart-moving"></div>`,
    ),
  );
}

function times(report: Report): string {
  const stages = report.runs[0].stages.map(
    ({ stage }, index) => `<li><i style="background:var(--stage-${index})"></i>${stage}</li>`,
  );
  const cost =
    '<h3>Cost of a step by its nodes</h3><ul class="key"><li><i style="background:var(--run-1)"></i>backbone run, as the runs saw it</li>' +
    '<li><i style="background:var(--run-7)"></i>measured at preparation</li></ul><div id="chart-cost"></div>';
  return section(
    'Where the time goes',
    'Milliseconds per new token, by stage. "keep" appends the accepted rows to the KV cache; "outside" is what the wall clock saw beyond prefill and steps.',
    `<div class="pair">${panel(`<h3>Time by stage</h3><ul class="key">${stages.join('')}</ul><div id="chart-stages"></div>`)}${panel(cost)}</div>` +
      (report.sweep ? '' : `<div style="height:14px"></div>${panel(table(stageTable(report)))}`),
  );
}

function beside(report: Report): string {
  const published = publishedTable(report);
  return published ? section('Beside MEDUSA-Plus', PUBLISHED_NOTE, panel(table(published))) : '';
}

function sweepSection(report: Report): string {
  const names = [...new Set(report.sweep!.points.map(({ series }) => series))];
  const legend = `<ul class="key">${[report.base, ...names]
    .map((name, index) => `<li><i style="background:var(--run-${index})"></i>${escapeText(name)}</li>`)
    .join('')}</ul>`;
  return section(
    `Sweep of ${escapeText(report.sweep!.parameter)}`,
    'Bars are 95% intervals; the dashed line is decoding without speculation.',
    `<div class="pair">${panel(`<h3>Tokens per step</h3>${legend}<div id="chart-sweep-steps"></div>`)}` +
      `${panel(`<h3>Tokens per second</h3>${legend}<div id="chart-sweep-speed"></div>`)}</div>` +
      `<div style="height:14px"></div>${panel(table(sweepTable(report)!, 2))}`,
  );
}

function browser(data: PageData): string {
  if (data.traces.length === 0) {
    return section('Steps', 'No trees were kept: run with --trace to look into single steps.', '');
  }
  const options = data.traces.map(
    ({ question, category, turn }, index) =>
      `<option value="${index}">${escapeText(`${question} ${category}, turn ${turn}`)}</option>`,
  );
  return section(
    'Steps',
    'The trees that were verified at the same place of the text. Filled: the accepted path. Percentages: probability that drafting gave the path from the root. (The first steps of the first question of each category are kept.)',
    panel(
      `<div class="controls"><label>Question <select id="step-choice">${options.join('')}</select></label>` +
        '<button id="step-back" type="button" aria-label="previous step">&larr;</button>' +
        '<input id="step-slider" type="range" min="0" value="0" aria-label="place in the text">' +
        '<button id="step-forth" type="button" aria-label="next step">&rarr;</button>' +
        '<span id="step-label" class="quiet"></span></div>' +
        '<div id="step-context" class="context"></div><div id="step-trees" class="trees"></div>',
    ),
  );
}

function counting(report: Report): string {
  const runs = report.runs.map((run) => `<li>${escapeText(`${run.name}: ${describeDecoding(run)}`)}</li>`);
  const notes = report.notes.map((note) => `<li>${escapeText(note)}</li>`);
  const command = String(report.runs[0].environment.command ?? '');
  return (
    `<h2>What was counted</h2><ul class="notes">` +
    '<li>Tokens per step: tokens added by verification steps / steps. The prefill and the token it gives are left out.</li>' +
    '<li>Tokens per inference: all new tokens / (steps + one prefill a turn), the rule of the MEDUSA-Plus notebook.</li>' +
    '<li>Tokens/s: all new tokens / wall time, prefill included. Speed-up: the quotient of tokens/s.</li>' +
    '<li>Tokens are counted as token ids, for all runs alike, EOS included; nothing after EOS is counted.</li></ul>' +
    `<h3>Runs</h3><ul class="notes">${runs.join('')}</ul>` +
    (notes.length > 0 ? `<h3>Notes</h3><ul class="notes">${notes.join('')}</ul>` : '') +
    `<footer>Made ${escapeText(report.made)} by medusa-plus ${escapeText(report.version)}. ` +
    `Questions: SHA-256 <code>${report.questions.sha256}</code>. ` +
    (command === '' ? '' : `Command: <code>medusa-plus ${escapeText(command)}</code>`) +
    '</footer>'
  );
}

function section(title: string, about: string, content: string): string {
  const id = title
    .toLowerCase()
    .replace(/[^a-z]+/g, '-')
    .replace(/^-|-$/g, '');
  return `<section id="${id}"><h2>${title}</h2><p class="about">${escapeText(about)}</p>${content}</section>`;
}

function panel(content: string): string {
  return `<div class="panel">${content}</div>`;
}

/** The runs' colours, from the given one on. */
function key(data: PageData, from: number): string {
  const items = data.runs
    .slice(from)
    .map(
      (name, index) =>
        `<li><i style="background:var(--run-${(index + from) % 8})"></i>${escapeText(name)}</li>`,
    );
  return `<ul class="key">${items.join('')}</ul>`;
}

function table({ head, rows, numbersFrom = 1 }: Table, names = numbersFrom): string {
  const cell = (tag: string, text: string, column: number): string =>
    `<${tag}${column < names ? ' class="name"' : ''}>${escapeText(text)}</${tag}>`;
  const line = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((text, column) => cell(tag, text, column)).join('')}</tr>`;
  return `<div class="scroll"><table><thead>${line('th', head)}</thead><tbody>${rows.map((row) => line('td', row)).join('')}</tbody></table></div>`;
}
