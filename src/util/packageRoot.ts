import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RuntimeFailure } from './errors.js';

interface PackageJson {
  name?: string;
  version?: string;
}

/** This file, or the bundle that it has become part of: one of CommonJS modules has no import.meta. */
const here = (import.meta.url as string | undefined) ? fileURLToPath(import.meta.url) : __filename;

/** Finds packages as this program's own modules would. */
export const requireFromHere = createRequire(here);

let found: { root: string | undefined } | undefined;

/**
 * The folder of this package: the nearest one upwards that has its package.json (this file may be source or compiled).
 * Undefined in a bundle, which has no such folder; nothing may ask at import.
 */
export function findPackageRoot(): string | undefined {
  found ??= { root: search(dirname(here)) };
  return found.root;
}

/** @throws RuntimeFailure in a bundle */
export function packageRoot(): string {
  const root = findPackageRoot();
  if (root !== undefined) return root;
  throw new RuntimeFailure(
    `Preparing a model needs the files of the package medusa-plus, and there are none above ${here}: this program is ` +
      'a bundle. Prepare the model with the package itself (npx medusa-plus prepare, where it is installed), or ' +
      'leave medusa-plus out of the bundle.',
  );
}

export function packageVersion(): string {
  const root = findPackageRoot();
  return (root === undefined ? undefined : readPackage(root)?.version) ?? 'unknown';
}

function search(start: string): string | undefined {
  for (let folder = start; ; folder = dirname(folder)) {
    if (readPackage(folder)?.name === 'medusa-plus') return folder;
    if (folder === dirname(folder)) return undefined;
  }
}

function readPackage(folder: string): PackageJson | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackageJson;
  } catch {
    return undefined;
  }
}
