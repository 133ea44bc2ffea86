import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../../util/errors.js';
import { count, name, object, tryJson } from '../../util/json.js';
import { REPORT_FILES } from './variants.js';

const ours = object({ format: count(), made: name, base: name });

/**
 * Checks that a comparison's reports replace none but those of an earlier one.
 *
 * @throws UsageError naming a file that is none of those
 */
export async function checkReportFiles(folder: string): Promise<void> {
  const foreign = REPORT_FILES.find((file) => existsSync(join(folder, file)));
  if (foreign === undefined) return;
  const text = await readFile(join(folder, 'report.json'), 'utf8').catch(() => '');
  if (tryJson(ours, text) !== undefined) return;
  throw new UsageError(
    `${join(folder, foreign)} is not of a comparison and would be overwritten; nothing was changed. Give another --output`,
  );
}
