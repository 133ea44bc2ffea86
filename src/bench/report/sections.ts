/** What a comparison reports, in its order: the one list behind the terminal's and the Markdown report. */
import type { Report } from '../compare/report.js';
import { PUBLISHED_NOTE, publishedTable } from './published.js';
import type { Table } from './table.js';
import {
  depthTable,
  describeParting,
  headTable,
  histogramTable,
  identityTable,
  oracleTable,
  overviewTable,
  pairTable,
  speedByCategory,
  stageTable,
  stepsByCategory,
  sweepTable,
} from './tables.js';

export interface Section {
  readonly title: string;
  readonly table: Table;
  /** What must be known to read the table. */
  readonly note?: string;
  /** Detail that a terminal has no room for beside a sweep's many runs. */
  readonly detail: boolean;
}

/** The sections that have something to say, identity first: no number counts before it. */
export function sections(report: Report): Section[] {
  const detail = true;
  const all: readonly (Omit<Section, 'table' | 'detail'> & { table: Table | undefined; detail?: boolean })[] =
    [
      { title: 'Outputs at temperature 0', table: identityTable(report) },
      { title: 'Overall', table: overviewTable(report), note: COUNTING },
      { title: 'Sweep', table: sweepTable(report) },
      { title: 'Tree against tree', table: pairTable(report) },
      { title: 'Beside MEDUSA-Plus', table: publishedTable(report), note: PUBLISHED_NOTE },
      { title: 'Tokens per step by category', table: stepsByCategory(report), detail },
      { title: `Speed-up over ${report.base} by category`, table: speedByCategory(report), detail },
      { title: 'Tokens added by a step', table: histogramTable(report), detail },
      { title: 'Acceptance by depth', table: depthTable(report), detail },
      { title: 'Heads: where the token that came stood in the list', table: headTable(report), detail },
      {
        title: 'Oracle: every combination of the candidates in the tree',
        table: oracleTable(report),
        detail,
      },
      { title: 'Time by stage', table: stageTable(report), detail },
    ];
  return all.flatMap(({ table, ...section }) =>
    table === undefined || table.rows.length === 0 ? [] : [{ detail: false, ...section, table }],
  );
}

/** The first differences between outputs that should have been equal, in words. */
export function differences(report: Report): string[] {
  return report.identity.flatMap(({ run, partings }) =>
    partings.slice(0, 3).map((parting) => describeParting(run, report.base, parting)),
  );
}

const COUNTING =
  'Tokens per step: tokens added by verification steps / steps, the prefill and its token left out. Tokens per ' +
  'inference: all new tokens / (steps + 1 prefill per turn). Tokens/s: all new tokens / wall time, prefill included. ' +
  'All ratios are of sums over all turns; tokens are counted as ids.';
