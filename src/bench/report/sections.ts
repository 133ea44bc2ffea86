/** What a comparison reports, in its order: the one list behind the terminal's, the Markdown and the HTML report. */
import { baseline } from '../compare/claim.js';
import type { Report } from '../compare/report.js';
import { publishedNote, publishedTable } from './published.js';
import type { Table } from './table.js';
import {
  describeMismatch,
  depthTable,
  endingTable,
  headTable,
  histogramTable,
  identityTable,
  ignoresEos,
  oracleTable,
  overviewTable,
  pairTable,
  speedByCategory,
  stageTable,
  stepsByCategory,
  sweepTable,
} from './tables.js';

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly table: Table;
  /** What must be known to read the table. */
  readonly note?: string;
  /** Detail that a terminal has no room for beside a sweep's many runs. */
  readonly detail?: boolean;
}

const COUNTING =
  'Tokens per step (mean acceptance length): tokens added by verification steps / steps, the prefill and its token left ' +
  'out. Tokens per inference: all new tokens / (steps + 1 prefill per turn). Tokens/s: all new tokens / wall time, prefill ' +
  'included. All ratios are of sums over all turns; tokens are counted as ids.';

const ENDINGS =
  'A turn that runs into the token limit is often a loop, which is easy to draft. Turns that ended by themselves say what ' +
  'ordinary answers gain.';

/** The sections that have something to say, identity first: no number counts before it. */
export function sections(report: Report): Section[] {
  const base = baseline(report);
  const detail = true;
  const all: readonly (Omit<Section, 'table'> & { readonly table: Table | undefined })[] = [
    { id: 'identity', title: 'Outputs at temperature 0', table: identityTable(report) },
    { id: 'overview', title: 'Overall', table: overviewTable(report), note: COUNTING },
    { id: 'sweep', title: 'Sweep', table: sweepTable(report) },
    { id: 'pairs', title: 'Tree against tree', table: pairTable(report) },
    {
      id: 'endings',
      title: `By how ${base} ended a turn`,
      table: endingTable(report),
      note: ENDINGS,
      detail,
    },
    {
      id: 'published',
      title: 'Beside MEDUSA-Plus',
      table: publishedTable(report),
      note: publishedNote(ignoresEos(report)),
    },
    { id: 'steps', title: 'Tokens per step by category', table: stepsByCategory(report), detail },
    { id: 'speed', title: `Speed-up over ${base} by category`, table: speedByCategory(report), detail },
    { id: 'histogram', title: 'Tokens added by a step', table: histogramTable(report), detail },
    { id: 'depths', title: 'Acceptance by depth', table: depthTable(report), detail },
    {
      id: 'heads',
      title: 'Heads: where the token that came stood in the list',
      table: headTable(report),
      detail,
    },
    {
      id: 'oracle',
      title: 'Oracle: every combination of the candidates in the tree',
      table: oracleTable(report),
      detail,
    },
    { id: 'stages', title: 'Time by stage', table: stageTable(report), detail },
  ];
  return all.flatMap(({ table, ...section }) =>
    table === undefined || table.rows.length === 0 ? [] : [{ ...section, table }],
  );
}

/** The first differences between outputs that should have been equal, in words. */
export function differences(report: Report): string[] {
  return report.identity.flatMap(({ run, mismatches }) =>
    mismatches.slice(0, 3).map((mismatch) => describeMismatch(run, report.base, mismatch)),
  );
}
