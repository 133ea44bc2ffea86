/** Tokens, numbers, axis values and colours as the page shows them. */

/** A token as it can be seen: spaces and line ends drawn, long ones cut. */
export function showToken(text: string, most: number): string {
  const visible = text.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '␣');
  return visible.length > most ? visible.slice(0, most - 1) + '…' : visible;
}

export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Round axis values from 0 or the data's low end to its high end, about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / count;
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw) || raw;
  const values: number[] = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    values.push(Number(value.toPrecision(12)));
  }
  return values;
}

export function colorOf(index: number): string {
  return 'var(--run-' + (index % 8) + ')';
}
