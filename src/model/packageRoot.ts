import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface PackageJson {
  name?: string;
  version?: string;
}

/**
 * The folder of this package: the nearest one upwards that has its package.json. (Run from source this file lies in
 * src/model, compiled in dist/src/model.)
 */
export const packageRoot: string = findRoot();

export const packageVersion: string = readPackage(packageRoot)?.version ?? 'unknown';

function findRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    if (readPackage(folder)?.name === 'medusa-plus') return folder;
    if (folder === dirname(folder)) throw new Error(`No package.json of medusa-plus above ${start}`);
  }
}

function readPackage(folder: string): PackageJson | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackageJson;
  } catch {
    return undefined;
  }
}
