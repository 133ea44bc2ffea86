// Puts the report's page into dist after tsc: the template, the style sheet, and the script in one piece. Run with tsx, for
// it bundles the source.
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pageScript } from '../src/bench/report/pageFiles.ts';

const root = join(import.meta.dirname, '..');
const [source, target] = ['src', 'dist/src'].map((folder) => join(root, folder, 'bench/report/page'));

for (const name of ['page.html', 'page.css']) cpSync(join(source, name), join(target, name));
writeFileSync(join(target, 'page.js'), pageScript());
