/**
 * The figures of the README, from data in this repository:
 *
 *   npx tsx scripts/figures.ts            writes docs/figures/*.svg
 *   npx tsx scripts/figures.ts --record   decodes first, and writes the step that is drawn to docs/figures/step.json
 *
 * Each SVG has a light and a dark dress, chosen by the reader's system.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'docs/figures');
const speedTable = join(root, 'results/2026-11-29-smollm2-135m-cpu-drafts/README.md');

/** One step of a generation. */
interface Step {
  readonly prompt: string;
  readonly options: { readonly nodes: number; readonly maxNewTokens: number };
  /** 1 is the first step after the prompt. */
  readonly step: number;
  /** [nodes] the token's text, the row of the parent (-1: the root) and the probability of the path. */
  readonly nodes: readonly { readonly text: string; readonly parent: number; readonly probability: number }[];
  /** Rows of the accepted path, root first. */
  readonly accepted: readonly number[];
  /** The base model's own token after the path. */
  readonly bonus: string;
}

/** A measured speed-up over plain decoding with its 95% interval. */
interface SpeedUp {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Every figure by its file name, as SVG text. */
export function makeFigures(): Record<string, string> {
  const step = JSON.parse(readFileSync(join(folder, 'step.json'), 'utf8')) as Step;
  return { 'tree.svg': drawStep(step), 'speed.svg': drawSpeed(readFileSync(speedTable, 'utf8')) };
}

/** Decodes with the default model until step `wanted`. Token ids and tree are the same on every processor. */
async function recordStep(prompt: string, wanted: number): Promise<Step> {
  const { MedusaEngine } = await import('../src/index.js');
  const engine = await MedusaEngine.open();
  const options = { nodes: 16, maxNewTokens: 64 };
  const found: Step[] = [];
  await engine.complete(prompt, {
    ...options,
    onStep: ({ index, tree, accepted }) => {
      if (index !== wanted || tree === undefined || accepted === undefined) return;
      const label = (id: number): string => engine.tokenizer.label(id);
      const nodes = Array.from(tree.tokens, (token, row) => ({
        text: label(token),
        parent: tree.parents[row],
        probability: Number(tree.probabilities[row].toFixed(6)),
      }));
      found.push({
        prompt,
        options,
        step: index,
        nodes,
        accepted: accepted.rows,
        bonus: label(accepted.bonus),
      });
    },
  });
  await engine.dispose();
  return found[0];
}

const style = `<style>
  text { font-family: -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif; font-size: 13px; fill: #1f2328 }
  .token { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 12px }
  .title { font-size: 15px; font-weight: 600 }
  .value { font-size: 12px; font-weight: 600 }
  .small { font-size: 12px; fill: #59636e }
  .page { fill: #ffffff } .node { fill: #f6f8fa; stroke: #d1d9e0 } .edge { stroke: #d1d9e0; fill: none }
  .taken { fill: #dafbe1; stroke: #1a7f37; stroke-width: 2 } .way { stroke: #1a7f37; stroke-width: 2; fill: none }
  .bonus { fill: #ddf4ff; stroke: #0969da; stroke-width: 2; stroke-dasharray: 4 3 }
  .all { fill: #0969da } .ended { fill: #bf8700 } .range { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } .page { fill: #0d1117 }
    .node { fill: #151b23; stroke: #3d444d } .edge { stroke: #3d444d }
    .taken { fill: #12261e; stroke: #3fb950 } .way { stroke: #3fb950 } .bonus { fill: #121d2f; stroke: #4493f8 }
    .all { fill: #4493f8 } .ended { fill: #d29922 } .range { stroke: #f0f6fc }
  }
</style>`;

function svg(width: number, height: number, description: string, body: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escape(description)}</title>
${style}
<rect class="page" width="${width}" height="${height}" rx="8"/>
${body.join('\n')}
</svg>
`;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const text = (x: number, y: number, words: string, kind = '', anchor = 'start'): string =>
  `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}">${escape(words)}</text>`;

/** A space at an end of a token is part of it: it is shown. */
const visible = (token: string): string => token.replaceAll(' ', '␣').replaceAll('\n', '⏎');

/** A tree that grows to the right, a leaf a line, with its accepted path and the bonus token behind it. */
function drawStep({ prompt, nodes, accepted, bonus, step }: Step): string {
  const [width, top, line, box, characterWidth] = [780, 84, 26, 20, 7.3];
  const labels = nodes.map(({ text, probability }, row) =>
    row === 0 ? visible(text) : `${visible(text)} ${(100 * probability).toFixed(1)}%`,
  );
  const boxWidth = (label: string): number => Math.ceil(label.length * characterWidth) + 16;
  const depths: number[] = [];
  for (const { parent } of nodes) depths.push(parent < 0 ? 0 : depths[parent] + 1);
  const columns: number[] = [24];
  for (let depth = 0; depth < Math.max(...depths); depth++) {
    const widest = Math.max(...labels.filter((_, row) => depths[row] === depth).map(boxWidth));
    columns.push(columns[depth] + widest + 44);
  }
  const lines: number[] = [];
  let next = 0;
  const place = (row: number): number => {
    const children = nodes.flatMap(({ parent }, child) => (parent === row ? [child] : []));
    lines[row] = children.length === 0 ? next++ : Math.min(...children.map(place));
    return lines[row];
  };
  place(0);
  const x = (row: number): number => columns[depths[row]];
  const y = (row: number): number => top + lines[row] * line;
  const taken = new Set(accepted);
  const edges = nodes.map(({ parent }, row) => {
    if (parent < 0) return '';
    const [fromX, fromY] = [x(parent) + boxWidth(labels[parent]), y(parent) + box / 2];
    const [toX, toY] = [x(row), y(row) + box / 2];
    const bend = columns[depths[row]] - 22;
    const kind = taken.has(row) ? 'way' : 'edge';
    return `<path class="${kind}" d="M${fromX} ${fromY}H${bend}V${toY}H${toX}"/>`;
  });
  const drawBox = (left: number, at: number, label: string, kind: string): string =>
    `<rect class="${kind}" x="${left}" y="${at}" width="${boxWidth(label)}" height="${box}" rx="5"/>` +
    text(left + 8, at + 14, label, 'token');
  const boxes = nodes.map((_, row) =>
    drawBox(x(row), y(row), labels[row], taken.has(row) ? 'taken' : 'node'),
  );
  const last = accepted[accepted.length - 1];
  const bonusX = columns[columns.length - 1] + 150;
  const fromX = x(last) + boxWidth(labels[last]);
  const bonusLabel = visible(bonus);
  const added = accepted.slice(1).map((row) => nodes[row].text.trim());
  const height = top + next * line + 44;
  return svg(width, height, `A candidate tree of ${nodes.length} nodes with its accepted path`, [
    text(
      24,
      32,
      `One run of the model over a tree of ${nodes.length} nodes gives ${added.length + 1} tokens`,
      'title',
    ),
    text(
      24,
      54,
      `Step ${step} of “${prompt}”. Percentages: the probability of the path from the root, as drafted.`,
      'small',
    ),
    // Ways last: they lie over the other edges.
    ...[...edges].sort((a, b) => Number(a.includes('"way"')) - Number(b.includes('"way"'))),
    `<path class="way" stroke-dasharray="4 3" d="M${fromX} ${y(last) + box / 2}H${bonusX}"/>`,
    ...boxes,
    drawBox(bonusX, y(last), bonusLabel, 'bonus'),
    text(bonusX, y(last) + 38, "the model's own next", 'small'),
    text(bonusX, y(last) + 54, 'token: the bonus', 'small'),
    text(
      24,
      height - 18,
      `Green: what plain decoding writes too, token by token. The root was known before the step. ␣ is a space.`,
      'small',
    ),
  ]);
}

const rows = [
  ['static tree, n = 4', 'static tree, 4 nodes'],
  ['dynamic tree, n = 4', 'dynamic tree, 4 nodes'],
  ['the default', 'the default (size by cost)'],
  ['the default, no heads', 'the default, without heads'],
] as const;

/** Speed-ups in a line of a Markdown table. */
function speedUps(line: string): SpeedUp[] {
  return [...line.matchAll(/([\d.]+)x\D{0,3} \[([\d.]+), ([\d.]+)\]/g)].map(([, value, low, high]) => ({
    value: Number(value),
    low: Number(low),
    high: Number(high),
  }));
}

/** Bars of the speed-ups on both kinds of processor: all answers, and those that the model ended by itself. */
function drawSpeed(markdown: string): string {
  const linesOf = (label: string): string[] =>
    markdown.split('\n').filter((line) => line.replaceAll('*', '').startsWith(`| ${label} |`));
  const data = rows.map(([label, shown]) => {
    const [all, byEnding] = linesOf(label).map(speedUps);
    const [vnni, avx2] = all;
    const [, vnniEnded, , avx2Ended] = byEnding;
    return {
      shown,
      panels: [
        [vnni, vnniEnded],
        [avx2, avx2Ended],
      ],
    };
  });
  const [width, left, panelWidth, gap, top, bar, step] = [780, 216, 250, 32, 96, 16, 50];
  const most = 3.5;
  const scale = (value: number): number => (value / most) * panelWidth;
  const bottom = top + data.length * step;
  const body = [
    text(24, 32, 'Speed over plain decoding, one CPU thread', 'title'),
    text(
      24,
      52,
      'MT-Bench, 16 questions, both turns, at most 512 new tokens; SmolLM2-135M-Instruct, int8. Lines: 95%.',
      'small',
    ),
    ...['AVX-512 VNNI', 'AVX2'].flatMap((name, panel) => {
      const x = left + panel * (panelWidth + gap);
      const plain = x + scale(1);
      return [
        text(x, top - 14, name),
        `<path class="edge" d="M${x} ${top}V${bottom}"/>`,
        `<path class="edge" stroke-dasharray="3 3" d="M${plain} ${top - 4}V${bottom}"/>`,
        text(plain, bottom + 16, 'plain', 'small', 'middle'),
      ];
    }),
    ...data.flatMap(({ shown, panels }, row) => {
      const y = top + row * step + 6;
      const bars = panels.flatMap((pair, panel) =>
        pair.flatMap(({ value, low, high }, i) => {
          const x = left + panel * (panelWidth + gap);
          const at = y + i * (bar + 2);
          const middle = at + bar / 2;
          return [
            `<rect class="${i === 0 ? 'all' : 'ended'}" x="${x}" y="${at}" width="${scale(value).toFixed(1)}" height="${bar}"/>`,
            `<path class="range" d="M${(x + scale(low)).toFixed(1)} ${middle}H${(x + scale(high)).toFixed(1)}"/>`,
            text(Math.round(x + scale(high)) + 6, at + 12, `${value.toFixed(2)}x`, 'value'),
          ];
        }),
      );
      return [text(left - 12, y + 21, shown, '', 'end'), ...bars];
    }),
    `<rect class="all" x="24" y="${bottom + 30}" width="12" height="12"/>`,
    text(42, bottom + 41, 'all answers', 'small'),
    `<rect class="ended" x="130" y="${bottom + 30}" width="12" height="12"/>`,
    text(
      148,
      bottom + 41,
      'answers that ended by themselves (the others ran into the limit, often in a loop that is easy to copy)',
      'small',
    ),
  ];
  return svg(width, bottom + 58, 'Speed-ups over plain decoding', body);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--record')) {
    const step = await recordStep('Why is the sky blue?', 3);
    writeFileSync(join(folder, 'step.json'), `${JSON.stringify(step, undefined, 1)}\n`);
  }
  for (const [name, figure] of Object.entries(makeFigures())) writeFileSync(join(folder, name), figure);
}
