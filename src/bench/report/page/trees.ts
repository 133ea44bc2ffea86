/** The step browser's drawings: a tree with its accepted path, and its attention mask. */
import type { PageStep } from '../pageData.js';
import { svg } from './charts.js';
import { inHtml, type Html } from './html.js';
import { showToken } from './text.js';

/** [nodes] depth of each node. */
export function depthsOf(parents: readonly number[]): number[] {
  const depths: number[] = [];
  parents.forEach((parent, node) => {
    depths[node] = parent < 0 ? 0 : depths[parent] + 1;
  });
  return depths;
}

/** [nodes] rows of the drawing: leaves one below the other, parents halfway between their first and last child. */
export function rowsOf(parents: readonly number[]): number[] {
  const children: number[][] = parents.map(() => []);
  parents.forEach((parent, node) => {
    if (parent >= 0) children[parent].push(node);
  });
  const rows: number[] = [];
  let next = 0;
  const visit = (node: number): void => {
    children[node].forEach(visit);
    const own = children[node];
    rows[node] = own.length === 0 ? next++ : (rows[own[0]] + rows[own[own.length - 1]]) / 2;
  };
  if (parents.length > 0) visit(0);
  return rows;
}

/** The tree from left to right; the accepted path is filled. */
export function treeDrawing(step: PageStep, texts: Readonly<Record<string, string>>, width: number): Html {
  const [line, box] = [19, 15];
  const depths = depthsOf(step.parents);
  const rows = rowsOf(step.parents);
  const deepest = Math.max(0, ...depths);
  const column = Math.max(112, Math.min(150, (width - 8) / (deepest + 1)));
  const x = (node: number): number => depths[node] * column + 2;
  const y = (node: number): number => rows[node] * line + 12;
  const accepted = step.accepted;
  const isAccepted = (node: number): boolean => accepted.indexOf(node) >= 0;
  const parts: Html[] = [];
  step.parents.forEach((parent, node) => {
    if (parent < 0) return;
    const [fromX, fromY, toX, toY] = [x(parent) + column - 22, y(parent), x(node), y(node)];
    const bend = (toX - fromX) / 2;
    parts.push(
      inHtml`<path class="edge${isAccepted(node) ? ' on' : ''}" d="M${fromX} ${fromY}C${fromX + bend} ${fromY} ${toX - bend} ${toY} ${toX} ${toY}"/>`,
    );
  });
  step.tokens.forEach((token, node) => {
    const text = texts[String(token)] === undefined ? '#' + token : texts[String(token)];
    const chance = step.probabilities[node];
    const shown =
      node === 0
        ? 'root'
        : chance >= 0.0995
          ? Math.round(chance * 100) + '%'
          : (chance * 100).toFixed(1) + '%';
    const most = Math.max(4, Math.floor((column - 22 - 42) / 6.4));
    parts.push(
      inHtml`<g class="node${isAccepted(node) ? ' on' : ''}">${[
        inHtml`<rect x="${x(node)}" y="${y(node) - box / 2 - 1}" width="${column - 22}" height="${box + 2}" rx="4"/>`,
        inHtml`<text x="${x(node) + 5}" y="${y(node) + 4}">${showToken(text, most)}</text>`,
        inHtml`<text class="chance" x="${x(node) + column - 27}" y="${y(node) + 4}" text-anchor="end">${shown}</text>`,
        inHtml`<title>${JSON.stringify(text)} (token ${token}), path probability ${chance}</title>`,
      ]}</g>`,
    );
  });
  const leaves = Math.max(0, ...rows) + 1;
  return svg(Math.max(120, (deepest + 1) * column), leaves * line + 8, parts);
}

/** Row i may look at column j: itself and its ancestors. Accepted rows are drawn in full colour. */
export function maskDrawing(step: PageStep, width: number): Html {
  const count = step.parents.length;
  const cell = Math.max(2, Math.min(18, Math.floor(width / count)));
  const parts: Html[] = [inHtml`<rect class="empty" width="${count * cell}" height="${count * cell}"/>`];
  step.parents.forEach((_, row) => {
    for (let column = row; column >= 0; column = step.parents[column]) {
      const kind = step.accepted.indexOf(row) >= 0 ? 'on' : 'off';
      parts.push(
        inHtml`<rect class="${kind}" x="${column * cell}" y="${row * cell}" width="${cell - 0.5}" height="${cell - 0.5}"/>`,
      );
    }
  });
  return svg(count * cell, count * cell, parts);
}

/** The step that was under way at a position: the last one whose root is not behind it. */
export function stepAt(steps: readonly PageStep[], position: number): PageStep | undefined {
  let found: PageStep | undefined;
  for (const step of steps) if (step.position <= position) found = step;
  return found;
}
