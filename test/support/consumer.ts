import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../src/util/packageRoot.js';
import { temporaryFolder } from './tinyModel.js';

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process that ended, however it did. */
export function finished(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { ...options, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(new Error(error.message));
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** Packs the checkout, which builds it. Returns the tarball's path and the names of the files in it. */
export async function pack(folder: string): Promise<{ tarball: string; files: string[]; bytes: number }> {
  const run = await finished('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: packageRoot(),
  });
  if (run.code !== 0) throw new Error(run.stderr);
  // What the build prints comes first.
  const [packed] = JSON.parse(run.stdout.slice(run.stdout.lastIndexOf('\n[') + 1)) as {
    filename: string;
    size: number;
    files: { path: string }[];
  }[];
  return {
    tarball: join(folder, packed.filename),
    files: packed.files.map(({ path }) => path),
    bytes: packed.size,
  };
}

/** An empty project of somebody who has never used npm, on a machine whose GPU feed cannot be reached. */
export class Consumer {
  private constructor(
    readonly folder: string,
    readonly remove: () => Promise<void>,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  static async make(): Promise<Consumer> {
    const { path, remove } = await temporaryFolder();
    const setting = async (name: string): Promise<string> =>
      (await finished('npm', ['config', 'get', name], { cwd: packageRoot() })).stdout.trim();
    // Nothing of this npm's own environment and settings, which would hide what a stranger's npm does.
    const isNpms = (name: string): boolean => /^(npm_|onnxruntime_node|global_agent)/i.test(name);
    const environment = {
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !isNpms(name))),
      HOME: join(path, 'home'),
      // The packages were fetched for this checkout: not again.
      npm_config_cache: await setting('cache'),
      npm_config_registry: await setting('registry'),
      npm_config_update_notifier: 'false',
      // What onnxruntime-node's script goes through; nobody listens there.
      GLOBAL_AGENT_HTTPS_PROXY: 'http://127.0.0.1:9',
      MEDUSA_PLUS_MODELS: join(path, 'models'),
      NO_COLOR: '1',
    };
    const folder = join(path, 'project');
    await mkdir(folder);
    await mkdir(environment.HOME);
    await writeFile(join(folder, 'package.json'), '{ "name": "project", "private": true }');
    return new Consumer(folder, remove, environment);
  }

  run(program: string, ...args: string[]): Promise<Finished> {
    return finished(program, args, { cwd: this.folder, env: this.environment });
  }

  write(name: string, text: string): Promise<void> {
    return writeFile(join(this.folder, name), text);
  }
}
