/**
 * `npm run test:python`: lints and tests export/ with its own packages, which are installed into a folder beside the
 * models (no virtual environment needed), the default model's weights among the test data. Fails when Python, pip or
 * the weights are missing: a skipped test is no test.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { childEnvironment } from '../src/util/childProcess.js';
import { fetchDefaultWeights } from '../src/prepare/defaultWeights.js';
import { modelsFolder } from '../src/models/modelsFolder.js';
import type { Report } from '../src/util/progressReport.js';
import { packageRoot } from '../src/util/packageRoot.js';
import { exportEnvironment, findPython } from '../src/prepare/python.js';
import { ensureRequirements } from '../src/prepare/pythonPackages.js';

const folder = join(packageRoot(), 'export');

/** Runs a module of the installed packages in export/, its output passed on. */
function run(program: string, args: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  const env = childEnvironment(environment);
  const child = spawn(program, args, { cwd: folder, env, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

const messages: Report = {
  begin: (stage) => console.error(stage),
  progress: () => {},
  note: (message) => console.error(message),
};

async function main(): Promise<number> {
  const python = await findPython();
  const packages = await ensureRequirements(python, 'requirements-test.txt', modelsFolder(undefined), {
    onInstall: () => console.error('Installing the Python packages of the tests (PyTorch among them; once)'),
  });
  const weights = await fetchDefaultWeights(python, modelsFolder(undefined), messages);
  const environment = { ...exportEnvironment(packages), MEDUSA_PLUS_TEST_GGUF: weights };
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
