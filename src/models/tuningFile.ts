import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import type { CostPoint } from '../decoding/policy/costCurve.js';
import type { Report } from '../util/progressReport.js';
import {
  checkJson,
  count,
  flag,
  list,
  number,
  object,
  parseJson,
  record,
  type Schema,
} from '../util/json.js';
import { setAside } from '../util/setAside.js';
import { writeJson } from '../util/writeFile.js';

/** Times above 0 of ascending numbers of nodes. */
const curve: Schema<readonly CostPoint[]> = v.pipe(
  list(object({ nodes: count(), milliseconds: number, perPosition: v.optional(number) })),
  v.check(
    (points) =>
      points.length > 0 &&
      points.every(
        ({ nodes, milliseconds, perPosition = 0 }, i) =>
          milliseconds > 0 && perPosition >= 0 && (i === 0 || nodes > points[i - 1].nodes),
      ),
    'times above 0 of ascending numbers of nodes',
  ),
);

/** What was measured of one model on one machine. */
const tuning = object({
  /** The number of threads with the best score, once all candidates have been measured. */
  threads: v.optional(count()),
  /** Milliseconds of a verification run by number of nodes, by number of threads. */
  curves: record(curve),
  /** Whether a row gives the same bits alone and in a tree. Absent on CUDA. */
  exactRows: v.optional(flag),
  /** By number of threads, how many measurements there were, all on a busy machine; none after one on a calm machine. */
  busyMeasurements: v.optional(v.fallback(record(count()), {})),
});
export type Tuning = Readonly<v.InferOutput<typeof tuning>>;

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
    const json = parseJson(text, path, '');
    // Another version's measurements are no fault.
    if (checkJson(object({ format: count() }), json, path, '').format !== format) return {};
    return checkJson(object({ measured: record(tuning) }), json, path, '').measured;
  } catch (error) {
    const kept = await setAside(path).then(
      (aside) => ` The damaged file is kept as ${aside}.`,
      () => '',
    );
    report.note(`${(error as Error).message} Measuring again.${kept}`);
    return {};
  }
}

export async function writeTunings(folder: string, measured: Tunings): Promise<void> {
  await writeJson(join(folder, tuningName), { format, measured });
}
