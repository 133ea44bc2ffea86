#!/usr/bin/env node
// Plays python3 for the tests of `prepare`: says its version, "installs", and exports by copying the tiny model.
// What goes wrong is chosen by FAKE_PYTHON: old, no-pip, pip-fails, export-fails, disk-full, slow, half.
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const mode = process.env.FAKE_PYTHON ?? '';
const args = process.argv.slice(2);
const valueOf = (name) => args[args.indexOf(name) + 1];
const fail = (message) => {
  console.error(message);
  process.exit(1);
};

if (args[0] === '-c') {
  console.log(mode === 'old' ? '3 8 True' : mode === 'no-pip' ? '3 12 False' : '3 12 True');
} else if (args[1] === 'pip') {
  if (mode === 'pip-fails') fail('WARNING: retrying\nERROR: No matching distribution found for onnx');
  mkdirSync(valueOf('--target'), { recursive: true });
} else if (args[1] === 'medusa_export.prepare') {
  const output = valueOf('--output');
  const staged = join(dirname(output), `${basename(output)}.partial-${process.pid}`);
  mkdirSync(staged, { recursive: true });
  console.log(JSON.stringify({ stage: 'Exporting the int8 backbone', done: 1, total: 2 }));
  if (mode === 'export-fails') fail('error: --from x.gguf: architecture mamba is not supported');
  if (mode === 'disk-full') fail('error: [Errno 28] No space left on device');
  cpSync(fileURLToPath(new URL('../fixtures/tiny', import.meta.url)), staged, { recursive: true });
  const manifest = join(staged, 'manifest.json');
  const facts = JSON.parse(readFileSync(manifest, 'utf8'));
  facts.source.name = basename(valueOf('--from'));
  writeFileSync(manifest, JSON.stringify(facts));
  if (mode === 'half') rmSync(join(staged, 'backbone.int8.onnx.data'));
  if (mode === 'slow') await new Promise((resolve) => setTimeout(resolve, 20_000));
  if (existsSync(output)) fail(`error: ${output} is not empty`);
  renameSync(staged, output);
} else {
  fail(`fake python: unexpected ${args.join(' ')}`);
}
