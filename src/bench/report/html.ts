/** The comparison as one HTML file: nothing is loaded from anywhere, and nothing runs but the page's own script. */
import { createHash } from 'node:crypto';
import type { LoadedRun } from '../compare/load.js';
import { fastestRun } from '../compare/claim.js';
import type { Report } from '../compare/report.js';
import type { Estimate } from '../compare/statistics.js';
import { Html, inHtml, type HtmlContent } from './page/html.js';
import { pageScript } from './page/script.js';
import { pageStyle } from './page/style.js';
import type { PageData } from './page/types.js';
import { pageData } from './pageData.js';
import { PUBLISHED_NOTE, publishedTable } from './published.js';
import { differences } from './sections.js';
import { number, times, type Table } from './table.js';
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
  const names = report.runs.map((run) => run.name).slice(0, 4);
  const script = pageScript();
  return inHtml`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy(script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>medusa-plus: ${names.join(', ')}</title>
<style>${unescaped(pageStyle)}</style>
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
${timesSection(report)}
${beside(report)}
${browser(data)}
${counting(report)}
</main>
<script type="application/json" id="data">${embed(data)}</script>
<script>${unescaped(script)}</script>
</body>
</html>
`.text;
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

/** JSON that cannot end the script element it stands in. */
function embed(data: PageData): Html {
  return unescaped(JSON.stringify(data).replace(/</g, '\\u003c'));
}

/** The claim's first sentence is the headline. */
function header(report: Report): Html {
  const [first, ...rest] = report.claim.split(/(?<=\.) (?=[A-Z])/);
  return inHtml`<header>
<h1>medusa-plus comparison, ${report.made.slice(0, 10)}</h1>
<p class="claim">${marked(first)}</p>
<p class="more">${marked(rest.join(' '))}</p>
${list('setup', setup(report))}
</header>`;
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

function cards(report: Report): Html {
  const others = report.runs.filter((run) => run.over_base !== null);
  const figures = report.sweep
    ? [fastest(report)]
    : others
        .slice(0, mostCards)
        .flatMap((run) => [
          card(`${run.name}: tokens per step`, run.ratios.tokens_per_step, number),
          card(`${run.name}: speed over ${report.base}`, run.over_base!.tokens_per_second, times),
        ]);
  return inHtml`<div class="cards">${figures}${identityCard(report)}</div>`;
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
  const partings = checked.reduce((sum, result) => sum + result.partings.length, 0);
  return checked.every(({ outcome }) => outcome === 'same')
    ? boxed(
        'card good',
        name,
        checked.every(({ isSure }) => isSure) ? 'identical' : 'no difference',
        `${tokens} tokens compared`,
      )
    : boxed('card bad', name, 'differ', `${partings} conversations part`);
}

function boxed(kind: string, name: string, figure: string, range: string): Html {
  return inHtml`<div class="${kind}">${[
    inHtml`<div class="name">${name}</div>`,
    inHtml`<div class="figure">${figure}</div>`,
    inHtml`<div class="range">${range}</div>`,
  ]}</div>`;
}

function identity(report: Report): Html {
  const differing = differences(report);
  return section(
    'Are the outputs the same?',
    `Each conversation decoded at temperature 0 is held against that of ${report.base}, token id by token id.`,
    panel(
      table(identityTable(report)),
      differing.length > 0 ? inHtml`<pre>${differing.join('\n\n')}</pre>` : '',
    ),
  );
}

function overall(report: Report): Html {
  return section(
    'Overall',
    'Ratios of sums over all turns, with 95% intervals from a paired bootstrap over questions.',
    panel(table(overviewTable(report))),
    report.pairs.length > 0 ? [gap, panel(inHtml`<h3>Tree against tree</h3>`, table(pairTable(report)))] : '',
  );
}

function categories(data: PageData): Html {
  const { base } = data.report;
  return section(
    'By category',
    'Whiskers are 95% intervals. The dashed line is decoding without speculation.',
    sideBySide(
      panel(inHtml`<h3>Tokens per step</h3>`, key(data, 1), chart('chart-steps')),
      panel(
        inHtml`<h3>Speed-up over ${base} <small>(tokens/s)</small></h3>`,
        key(data, 1),
        chart('chart-speed'),
      ),
    ),
  );
}

function acceptance(report: Report, data: PageData): Html {
  const tables = [
    ['Heads: where the token that came stood in the list', headTable(report)],
    ['Oracle: every combination of the candidates in the tree', oracleTable(report)],
    ['Acceptance by depth', depthTable(report)],
  ] as const;
  return section(
    'Acceptance',
    'How many tokens a step adds (its bonus token included), and how deep into the tree the accepted path reaches.',
    sideBySide(
      panel(inHtml`<h3>Tokens added by a step</h3>`, key(data, 1), chart('chart-histogram')),
      panel(inHtml`<h3>Accepted depth</h3>`, key(data, 1), chart('chart-depth')),
      ...tables
        .filter(([, content]) => content.rows.length > 0)
        .map(([title, content]) => panel(inHtml`<h3>${title}</h3>`, table(content))),
    ),
  );
}

function moving(data: PageData): Html {
  if (data.generations.length === 0) return inHtml``;
  const windows = [8, 16, 32, 64].map((n) => inHtml`<option${n === 16 ? ' selected' : ''}>${n}</option>`);
  return section(
    'Along a generation',
    'Moving average of the tokens added by a step, against the position in the text.',
    panel(
      inHtml`<div class="controls">${[
        inHtml`<label>Question <select id="moving-choice">${turnOptions(data.generations)}</select></label>`,
        inHtml`<label>Steps averaged <select id="moving-window">${windows}</select></label>`,
      ]}</div>`,
      key(data, 1),
      chart('chart-moving'),
    ),
  );
}

/** Turns to choose from. */
function turnOptions(turns: readonly { question: string; category: string; turn: number }[]): Html[] {
  return turns.map(
    ({ question, category, turn }, index) =>
      inHtml`<option value="${index}">${question} ${category}, turn ${turn}</option>`,
  );
}

function timesSection(report: Report): Html {
  const stages = report.runs[0].stages.map(({ stage }, index) => coloured('stage', index, stage));
  const cost = [
    coloured('run', 1, 'backbone run, as the runs saw it'),
    coloured('run', 7, 'measured at preparation'),
  ];
  return section(
    'Where the time goes',
    'Milliseconds per new token, by stage. "keep" appends the accepted rows to the KV cache; "outside" is what the wall clock saw beyond prefill and steps.',
    sideBySide(
      panel(inHtml`<h3>Time by stage</h3>`, list('key', stages), chart('chart-stages')),
      panel(inHtml`<h3>Cost of a step by its nodes</h3>`, list('key', cost), chart('chart-cost')),
    ),
    report.sweep ? '' : [gap, panel(table(stageTable(report)))],
  );
}

function beside(report: Report): Html {
  const published = publishedTable(report);
  return published ? section('Beside MEDUSA-Plus', PUBLISHED_NOTE, panel(table(published))) : inHtml``;
}

function sweepSection(report: Report): Html {
  const names = [...new Set(report.sweep!.points.map(({ series }) => series))];
  const legend = list(
    'key',
    [report.base, ...names].map((name, index) => coloured('run', index, name)),
  );
  return section(
    `Sweep of ${report.sweep!.parameter}`,
    'Bars are 95% intervals; the dashed line is decoding without speculation.',
    sideBySide(
      panel(inHtml`<h3>Tokens per step</h3>`, legend, chart('chart-sweep-steps')),
      panel(inHtml`<h3>Tokens per second</h3>`, legend, chart('chart-sweep-speed')),
    ),
    gap,
    panel(table(sweepTable(report)!, 2)),
  );
}

function browser(data: PageData): Html {
  if (data.traces.length === 0) {
    return section('Steps', 'No trees were kept: run with --trace to look into single steps.');
  }
  return section(
    'Steps',
    'The trees that were verified at the same place of the text. Filled: the accepted path. Percentages: probability that drafting gave the path from the root. (The first steps of the first question of each category are kept.)',
    panel(
      inHtml`<div class="controls">${[
        inHtml`<label>Question <select id="step-choice">${turnOptions(data.traces)}</select></label>`,
        inHtml`<button id="step-back" type="button" aria-label="previous step">&larr;</button>`,
        inHtml`<input id="step-slider" type="range" min="0" value="0" aria-label="place in the text">`,
        inHtml`<button id="step-forth" type="button" aria-label="next step">&rarr;</button>`,
        inHtml`<span id="step-label" class="quiet"></span>`,
      ]}</div>`,
      inHtml`<div id="step-context" class="context"></div><div id="step-trees" class="trees"></div>`,
    ),
  );
}

function counting(report: Report): Html {
  const command = String(report.runs[0].environment.command ?? '');
  return inHtml`${[
    inHtml`<h2>What was counted</h2>`,
    list('notes', [
      'Tokens per step: tokens added by verification steps / steps. The prefill and the token it gives are left out.',
      'Tokens per inference: all new tokens / (steps + one prefill a turn), the rule of the MEDUSA-Plus notebook.',
      'Tokens/s: all new tokens / wall time, prefill included. Speed-up: the quotient of tokens/s.',
      'Tokens are counted as token ids, for all runs alike, EOS included; nothing after EOS is counted.',
    ]),
    inHtml`<h3>Runs</h3>`,
    list(
      'notes',
      report.runs.map((run) => `${run.name}: ${describeDecoding(run)}`),
    ),
    report.notes.length > 0 ? [inHtml`<h3>Notes</h3>`, list('notes', report.notes)] : '',
    inHtml`<footer>Made ${report.made} by medusa-plus ${report.version}. `,
    inHtml`Questions: SHA-256 <code>${report.questions.sha256}</code>. `,
    command === '' ? '' : inHtml`Command: <code>medusa-plus ${command}</code>`,
    inHtml`</footer>`,
  ]}`;
}

const gap = inHtml`<div style="height:14px"></div>`;

function section(title: string, about: string, ...content: readonly HtmlContent[]): Html {
  const id = title
    .toLowerCase()
    .replace(/[^a-z]+/g, '-')
    .replace(/^-|-$/g, '');
  return inHtml`<section id="${id}"><h2>${title}</h2><p class="about">${about}</p>${content}</section>`;
}

function panel(...content: readonly HtmlContent[]): Html {
  return inHtml`<div class="panel">${content}</div>`;
}

function sideBySide(...panels: readonly Html[]): Html {
  return inHtml`<div class="pair">${panels}</div>`;
}

/** The box that the page's script draws a chart into. */
function chart(id: string): Html {
  return inHtml`<div id="${id}"></div>`;
}

/** The runs' colours, from the given one on. */
function key(data: PageData, from: number): Html {
  return list(
    'key',
    data.runs.slice(from).map((name, index) => coloured('run', (index + from) % 8, name)),
  );
}

function coloured(kind: 'run' | 'stage', index: number, name: string): Html {
  return inHtml`<i style="background:var(--${kind}-${index})"></i>${name}`;
}

function table({ head, rows, numbersFrom = 1 }: Table, names = numbersFrom): Html {
  const kind = (column: number): Html => (column < names ? inHtml` class="name"` : inHtml``);
  const titles = head.map((text, column) => inHtml`<th${kind(column)}>${text}</th>`);
  const lines = rows.map(
    (row) => inHtml`<tr>${row.map((text, column) => inHtml`<td${kind(column)}>${text}</td>`)}</tr>`,
  );
  return inHtml`<div class="scroll"><table><thead><tr>${titles}</tr></thead><tbody>${lines}</tbody></table></div>`;
}
