/** Numbers and tables as text. */
import { visibleInLine } from '../../util/terminalText.js';
import type { Estimate } from '../compare/statistics.js';

/** A cell and its alignment: numbers right, names left. */
export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns from here on are aligned right; 1 unless told otherwise. */
  readonly numbersFrom?: number;
}

export function number(value: number, digits = 2): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '-';
}

export function percent(share: number, digits = 1): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(digits)}%` : '-';
}

/** "1 question", "2 questions" */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** As git shortens it, "with changes" behind it where there were some. */
export function shortCommit(commit: string): string {
  return commit.replace(/^(\w{12})\w*/, '$1');
}

/** "1.83 [1.79, 1.88]" */
export function estimate(value: Estimate, digits = 2): string {
  if (!Number.isFinite(value.low)) return number(value.value, digits);
  return `${number(value.value, digits)} [${number(value.low, digits)}, ${number(value.high, digits)}]`;
}

/** "1.08x [1.06, 1.10]" */
export function factor(value: Estimate | null): string {
  if (value === null) return '-';
  const { low, high } = value;
  return times(value.value) + (Number.isFinite(low) ? ` [${number(low)}, ${number(high)}]` : '');
}

export function times(value: number): string {
  return Number.isFinite(value) ? `${number(value)}x` : '-';
}

/** A table of aligned columns for a terminal. */
export function plainTable({ numbersFrom = 1, ...table }: Table): string {
  // Before it is measured: what is shown for a control character is longer.
  const [head, ...rows] = [table.head, ...table.rows].map((cells) => cells.map(visibleInLine));
  const widths = head.map((cell, column) =>
    Math.max(cell.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        column < numbersFrom ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
      )
      .join('  ')
      .trimEnd();
  return [line(head), widths.map((width) => '─'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}
