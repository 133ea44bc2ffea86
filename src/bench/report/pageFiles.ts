/** The page's files as they lie on disk, and its script in one piece. */
import type * as esbuild from 'esbuild';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = join(import.meta.dirname, 'page');

export function pageFile(name: 'page.html' | 'page.css'): string {
  return readFileSync(join(folder, name), 'utf8');
}

let script: string | undefined;

/** `npm run build` leaves the script here as page.js (packaging/reportPage.js); a checkout bundles it. */
export function pageScript(): string {
  script ??= readOrBundle();
  return script;
}

function readOrBundle(): string {
  const built = join(folder, 'page.js');
  if (existsSync(built)) return readFileSync(built, 'utf8');
  const { buildSync } = createRequire(import.meta.url)('esbuild') as typeof esbuild;
  const { outputFiles } = buildSync({
    entryPoints: [join(folder, 'main.ts')],
    bundle: true,
    write: false,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
  });
  return outputFiles[0].text;
}
