/** The measured time of one verification run. */
export interface CostPoint {
  /** Nodes, >= 1. */
  readonly nodes: number;
  /** Behind `measuredPast` cached positions; > 0. */
  readonly milliseconds: number;
  /** Milliseconds that each further cached position adds, >= 0; follows from the other points where it is absent. */
  readonly perPosition?: number;
}

/** Cached positions that the milliseconds of a `CostPoint` are for. */
export const measuredPast = 256;

/**
 * T(n, past): what verifying n nodes behind `past` cached positions costs, in milliseconds. Linear between the measured
 * points, extended by the last slope, constant below the first point, and never decreasing in n (pooled where the
 * measurement did). Linear in the past, as attention is.
 *
 * `observe` follows the machine as it is now (other load, say): the logarithms of all points move a little towards what is
 * seen, those of nearby sizes more than others. So a size that is not taken follows its nearest neighbour that is, by
 * `leftByOctave` for each doubling between them. What is seen is the median of the last three observations in the
 * same segment, so a stall of the machine that comes alone changes nothing.
 */
export class CostCurve {
  private readonly nodes: Float64Array;
  /** [points] as measured: milliseconds without a past, and those that each cached position adds. */
  private readonly measured: PastLine;
  /** [points] logarithm of the factor learnt for each point. */
  private readonly shifts: Float64Array;
  /** [points] as learnt, each by itself. */
  private readonly learnt: PastLine;
  /** [points] as believed now: the same, made non-decreasing. */
  private readonly current: PastLine;
  /** [points] the last surprises (as logarithms) in the segment that ends at each point. */
  private readonly surprises: number[][];

  /** @throws RangeError when there are no points, or a point is not positive */
  constructor(points: readonly CostPoint[]) {
    const sorted = [...points].sort((a, b) => a.nodes - b.nodes);
    sorted.forEach(checkPoint);
    if (sorted.length === 0) throw new RangeError('A cost curve needs at least one measured point.');
    this.nodes = Float64Array.from(sorted, (point) => point.nodes);
    this.measured = pastLine(sorted);
    this.shifts = new Float64Array(sorted.length);
    this.surprises = sorted.map(() => []);
    this.learnt = pastLine(sorted);
    this.current = pastLine(sorted);
    this.update();
  }

  /** T(nodes, past) as it is believed now. */
  at(nodes: number, past = measuredPast): number {
    return this.on(this.current, nodes, past);
  }

  private on({ start, slope }: PastLine, nodes: number, past: number): number {
    const upper = this.upper(nodes);
    const weight = this.weight(nodes, upper);
    const lower = Math.max(0, upper - 1);
    const without = start[lower] + weight * (start[upper] - start[lower]);
    return without + past * (slope[lower] + weight * (slope[upper] - slope[lower]));
  }

  /** How many times as long a plain step takes behind `past` positions as behind `measuredPast`. */
  stretch(past: number): number {
    return this.at(1, past) / this.at(1);
  }

  /** Learns that a run of `nodes` nodes behind `past` cached positions took `milliseconds`. */
  observe(nodes: number, milliseconds: number, past = measuredPast): void {
    if (!(milliseconds > 0)) return;
    const upper = this.upper(nodes);
    // Where more nodes take less time, the curve that never decreases would be surprised for ever, and drift.
    const isWithin = nodes <= this.nodes[this.nodes.length - 1];
    const expected = this.on(isWithin ? this.learnt : this.current, nodes, past);
    const surprise = medianOfThree(this.surprises[upper], Math.log(milliseconds / expected));
    for (let i = 0; i < this.shifts.length; i++) {
      const octaves = Math.abs(Math.log2(this.nodes[i] / nodes));
      this.shifts[i] += learningRate * leftByOctave ** octaves * surprise;
    }
    this.update();
  }

  private update(): void {
    const { measured, learnt, current, shifts } = this;
    for (const part of ['start', 'slope'] as const) {
      shifts.forEach((shift, i) => (learnt[part][i] = measured[part][i] * Math.exp(shift)));
      current[part].set(learnt[part]);
      poolViolators(current[part]);
    }
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

/** Share of a surprise that its own size takes on, and what is left of that with each doubling or halving of the size. */
const learningRate = 0.13;
const leftByOctave = 0.8;

/** Adds `value` to the last three values in `recent` and returns their median: 0, no surprise, before there are three. */
function medianOfThree(recent: number[], value: number): number {
  recent.push(value);
  if (recent.length > 3) recent.shift();
  return recent.length < 3 ? 0 : [...recent].sort((a, b) => a - b)[1];
}

interface PastLine {
  /** [points] milliseconds without a past. */
  readonly start: Float64Array;
  /** [points] milliseconds for each cached position. */
  readonly slope: Float64Array;
}

/** Whatever the slopes say, most of a short step goes into the weights, and no step takes no time. */
const mostOfPast = 0.9;

function pastLine(points: readonly CostPoint[]): PastLine {
  const slope = slopesOf(points);
  points.forEach(({ milliseconds }, i) => {
    slope[i] = Math.min(slope[i], (mostOfPast * milliseconds) / measuredPast);
  });
  const start = Float64Array.from(points, ({ milliseconds }, i) => milliseconds - measuredPast * slope[i]);
  return { start, slope };
}

/** [points] `perPosition`, on the line through its neighbours where a point has none; 0 where none has. */
function slopesOf(points: readonly CostPoint[]): Float64Array {
  const known = points.filter(({ perPosition }) => perPosition !== undefined);
  return Float64Array.from(points, ({ nodes, perPosition }) => {
    if (perPosition !== undefined || known.length < 2) return perPosition ?? known[0]?.perPosition ?? 0;
    const after = known.findIndex((point) => point.nodes > nodes);
    const upper = Math.max(1, after === -1 ? known.length - 1 : after);
    const [a, b] = [known[upper - 1], known[upper]];
    const weight = (nodes - a.nodes) / (b.nodes - a.nodes);
    return Math.max(0, a.perPosition! + weight * (b.perPosition! - a.perPosition!));
  });
}

function checkPoint(point: CostPoint, index: number, all: readonly CostPoint[]): void {
  const { nodes, milliseconds, perPosition = 0 } = point;
  const repeated = index > 0 && all[index - 1].nodes === nodes;
  const isTime = milliseconds > 0 && milliseconds < Infinity && perPosition >= 0 && perPosition < Infinity;
  if (nodes >= 1 && isTime && !repeated) return;
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
