import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';

/**
 * Renames a damaged file to FILE.damaged, or FILE.damaged.2 and so on where there is one already.
 *
 * @returns its new name
 * @throws file system errors as they are
 */
export async function setAside(file: string): Promise<string> {
  let aside = `${file}.damaged`;
  for (let i = 2; existsSync(aside); i++) aside = `${file}.damaged.${i}`;
  await rename(file, aside);
  return aside;
}
