/**
 * `npm run test:python`: lints and tests export/ with its own packages, which are installed into a folder beside the
 * models (no virtual environment needed). Fails when Python or pip is missing: a skipped test is no test.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { modelsFolder } from '../src/model/locate.js';
import { packageRoot } from '../src/model/packageRoot.js';
import { ensureRequirements, exportEnvironment, findPython } from '../src/model/python.js';

const folder = join(packageRoot, 'export');

/** Runs a module of the installed packages in export/, its output passed on. */
function run(program: string, args: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  const child = spawn(program, args, { cwd: folder, env: environment, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

async function main(): Promise<number> {
  const python = await findPython();
  const packages = await ensureRequirements(python, 'requirements-test.txt', modelsFolder(undefined), {
    onInstall: () => console.error('Installing the Python packages of the tests (PyTorch among them; once)'),
  });
  const environment = exportEnvironment(packages);
  const lint = await run(python.program, ['-m', 'ruff', 'check', '.'], environment);
  const tests = await run(
    python.program,
    ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests'],
    environment,
  );
  return lint === 0 ? tests : lint;
}

main().then(
  (code) => (process.exitCode = code),
  (error: Error) => {
    console.error(`test:python: ${error.message}`);
    process.exitCode = 1;
  },
);
