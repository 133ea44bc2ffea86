/** The measured time of one verification run. */
export interface CostPoint {
  /** Nodes, >= 1. */
  readonly nodes: number;
  /** > 0. */
  readonly milliseconds: number;
}

/**
 * T(n): what verifying n nodes costs, in milliseconds. Linear between the measured points, extended by the last slope,
 * constant below the first point, and never decreasing (pooled where the measurement did).
 *
 * `observe` follows the machine as it is now (other load, a longer past): the logarithms of the whole curve and of the
 * neighbouring points move a little towards what is seen. What is seen is the median of the last three observations
 * thereabouts, so a stall of the machine that comes alone changes nothing.
 */
export class CostCurve {
  private readonly nodes: Float64Array;
  private readonly measured: Float64Array;
  /** [points] logarithm of the factor learnt for each point. */
  private readonly shifts: Float64Array;
  private readonly current: Float64Array;
  /** [points] the last surprises (as logarithms) in the segment that ends at each point. */
  private readonly surprises: number[][];

  /** @throws RangeError when there are no points, or a point is not positive */
  constructor(points: readonly CostPoint[]) {
    const sorted = [...points].sort((a, b) => a.nodes - b.nodes);
    sorted.forEach(checkPoint);
    if (sorted.length === 0) throw new RangeError('A cost curve needs at least one measured point.');
    this.nodes = Float64Array.from(sorted, (point) => point.nodes);
    this.measured = Float64Array.from(sorted, (point) => point.milliseconds);
    this.shifts = new Float64Array(sorted.length);
    this.surprises = sorted.map(() => []);
    this.current = Float64Array.from(this.measured);
    poolViolators(this.current);
  }

  /** T(nodes) as it is believed now. */
  at(nodes: number): number {
    const { current } = this;
    const upper = this.upper(nodes);
    if (upper === 0) return current[0];
    const weight = this.weight(nodes, upper);
    return current[upper - 1] + weight * (current[upper] - current[upper - 1]);
  }

  /** Learns that a run of `nodes` nodes took `milliseconds`. */
  observe(nodes: number, milliseconds: number): void {
    if (!(milliseconds > 0)) return;
    const upper = this.upper(nodes);
    const surprise = medianOfThree(this.surprises[upper], Math.log(milliseconds / this.at(nodes)));
    for (let i = 0; i < this.shifts.length; i++) this.shifts[i] += commonRate * surprise;
    const weight = Math.min(1, this.weight(nodes, upper));
    if (upper > 0) this.shifts[upper - 1] += ownRate * (1 - weight) * surprise;
    this.shifts[upper] += ownRate * weight * surprise;
    this.shifts.forEach((shift, i) => (this.current[i] = this.measured[i] * Math.exp(shift)));
    poolViolators(this.current);
  }

  /** Index of the point that ends the segment of `nodes`; 0 when there is but one point. */
  private upper(nodes: number): number {
    let upper = Math.min(1, this.nodes.length - 1);
    while (upper < this.nodes.length - 1 && this.nodes[upper] < nodes) upper++;
    return upper;
  }

  /** Place of `nodes` in the segment that ends at `upper`: 0 at its start, 1 at its end, more beyond the last point. */
  private weight(nodes: number, upper: number): number {
    if (upper === 0) return 1;
    const from = this.nodes[upper - 1];
    return Math.max(0, (nodes - from) / (this.nodes[upper] - from));
  }
}

/** Share of a surprise that the whole curve takes on, and that the neighbouring points take on beside it. */
const commonRate = 0.03;
const ownRate = 0.1;

/** Adds `value` to the last three values in `recent` and returns their median: 0, no surprise, before there are three. */
function medianOfThree(recent: number[], value: number): number {
  recent.push(value);
  if (recent.length > 3) recent.shift();
  return recent.length < 3 ? 0 : [...recent].sort((a, b) => a - b)[1];
}

function checkPoint({ nodes, milliseconds }: CostPoint, index: number, all: readonly CostPoint[]): void {
  const repeated = index > 0 && all[index - 1].nodes === nodes;
  if (nodes >= 1 && milliseconds > 0 && milliseconds < Infinity && !repeated) return;
  throw new RangeError(
    `The cost curve has the point ${nodes} nodes = ${milliseconds} ms` +
      `${repeated ? ' twice' : ''}; it needs distinct node counts from 1 and positive times. Measure it again.`,
  );
}

/** Makes values non-decreasing in place, replacing each run that descends by its mean (isotonic regression). */
function poolViolators(values: Float64Array): void {
  for (let end = 1; end < values.length; end++) {
    let start = end;
    let mean = values[end];
    while (start > 0 && values[start - 1] > mean) {
      start--;
      mean += (values[start] - mean) / (end - start + 1);
    }
    if (start < end) values.fill(mean, start, end + 1);
  }
}
