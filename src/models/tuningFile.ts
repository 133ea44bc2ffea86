import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { CostPoint } from '../decoding/policy/costCurve.js';
import type { Report } from '../util/progressReport.js';
import { JsonReader } from '../util/jsonReader.js';
import { writeJson } from '../util/writeFile.js';

/** What was measured of one model on one machine. */
export interface Tuning {
  /** The number of threads with the best score, once all candidates have been measured. */
  readonly threads?: number;
  /** Milliseconds of a verification run by number of nodes, by number of threads. */
  readonly curves: Readonly<Record<string, readonly CostPoint[]>>;
  /** Whether a row gives the same bits alone and in a tree. Absent on CUDA. */
  readonly exactRows?: boolean;
  /** How many measurements there were, all on a busy machine; absent after one on a calm machine. */
  readonly busyMeasurements?: number;
}

/**
 * tuning.json, beside the model: measurements by what they depend on. They are made again when the machine, ONNX
 * Runtime, its kernels or the graph is another.
 */
export type Tunings = Readonly<Record<string, Tuning>>;

const format = 3;
export const tuningName = 'tuning.json';

/** What has been measured. A file that cannot be read is set aside, with a note, and measured again. */
export async function readTunings(folder: string, report: Report): Promise<Tunings> {
  const path = join(folder, tuningName);
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return {};
  try {
    const root = JsonReader.parse(text, path, '');
    // Another version's measurements are no fault.
    if (root.field('format').count() !== format) return {};
    return root.field('measured').entries(readTuning);
  } catch (error) {
    const aside = `${path}.damaged`;
    const kept = await rename(path, aside).then(
      () => ` The damaged file is kept as ${aside}.`,
      () => '',
    );
    report.note(`${(error as Error).message} Measuring again.${kept}`);
    return {};
  }
}

function readTuning(tuning: JsonReader): Tuning {
  return {
    threads: tuning.field('threads').optional((each) => each.count()),
    curves: tuning.field('curves').entries(readCurve),
    exactRows: tuning.field('exactRows').optional((each) => each.boolean()),
    busyMeasurements: tuning.field('busyMeasurements').optional((each) => each.count()),
  };
}

function readCurve(curve: JsonReader): CostPoint[] {
  const points = curve.list((point) => ({
    nodes: point.field('nodes').count(),
    milliseconds: point.field('milliseconds').number(),
  }));
  const isSound = points.every(
    ({ nodes, milliseconds }, i) => milliseconds > 0 && (i === 0 || nodes > points[i - 1].nodes),
  );
  if (points.length > 0 && isSound) return points;
  throw curve.refuse('these must be times above 0 of ascending numbers of nodes.');
}

export async function writeTunings(folder: string, measured: Tunings): Promise<void> {
  await writeJson(join(folder, tuningName), { format, measured });
}
