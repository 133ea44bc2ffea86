import { expect } from 'chai';
import { build } from 'esbuild';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot, packageVersion } from '../../src/util/packageRoot.js';
import { Page } from '../bench/report/reportPage.js';
import { Consumer, finished, pack } from '../support/consumer.js';
import { tinyFolder } from '../support/tinyModel.js';

const require = createRequire(import.meta.url);

/** Generates with the library, printed as "ok <characters>". */
const usesLibrary = `
async function use({ MedusaEngine }) {
  const engine = await MedusaEngine.open({ model: process.argv[2], threads: 1 });
  let length = 0;
  for await (const chunk of engine.generate('Hello', { maxNewTokens: 4, tree: 'static', nodes: 2 })) {
    if (chunk.kind === 'end') length = chunk.result.tokenIds?.length ?? chunk.result.text.length;
  }
  await engine.dispose();
  console.log('ok', length);
}
`;

describe('The package', function () {
  this.timeout(300_000);
  let consumer: Consumer;
  let packed: Awaited<ReturnType<typeof pack>>;

  before(async () => {
    consumer = await Consumer.make();
    packed = await pack(join(consumer.folder, '..'));
  });
  after(() => consumer?.remove());

  it('holds what runs and prepares, and no more', () => {
    const { files, bytes } = packed;
    expect(bytes).to.be.below(20e6);
    expect(files).to.include.members([
      'dist/bin/medusa-plus.js',
      'dist/src/index.js',
      'dist/src/index.d.ts',
      'dist/src/bench/report/page/page.html',
      'dist/src/bench/report/page/page.css',
      'dist/src/bench/report/page/page.js',
      'export/run_module.py',
      'export/requirements-hub.lock',
      'export/requirements.lock',
      'export/medusa_export/__main__.py',
      'export/medusa_export/commands/prepare.py',
      'export/medusa_export/weights/rotation.py',
      'heads/smollm2-135m-instruct/medusa1.safetensors',
      'heads/smollm2-135m-instruct/medusa1.conditional.safetensors',
      'LICENSE',
      'README.md',
      'SECURITY.md',
    ]);
    const unwanted = files.filter((file) =>
      /test|\.map$|\.py[co]$|train|distil|__pycache__|\.npmrc/.test(file),
    );
    expect(unwanted).to.deep.equal([]);
  });

  it('is well formed for publint and are-the-types-wrong', async () => {
    for (const [tool, ...args] of [
      ['publint/src/cli.js', 'run', '--strict', packed.tarball],
      ['@arethetypeswrong/cli/dist/index.js', packed.tarball],
    ]) {
      const program = join(packageRoot(), 'node_modules', tool);
      const run = await finished(process.execPath, [program, ...args]);
      expect(run.code, run.stdout + run.stderr).to.equal(0);
    }
  });

  it('downloads no CUDA libraries for the checkout', async () => {
    // npm up to 11 runs the install scripts of packages that the lock marks as having one, and marks them again when a
    // dependency is added beside an older node_modules: delete the mark then. From 11 on `allowScripts` decides.
    const read = async <T>(name: string): Promise<T> =>
      JSON.parse(await readFile(join(packageRoot(), name), 'utf8')) as T;
    const { packages } = await read<{ packages: Record<string, { hasInstallScript?: boolean }> }>(
      'package-lock.json',
    );
    expect(packages['node_modules/onnxruntime-node'].hasInstallScript).to.equal(undefined);
    const { allowScripts } = await read<{ allowScripts: Record<string, boolean> }>('package.json');
    expect(allowScripts['onnxruntime-node']).to.equal(false);
  });

  it('installs with npm 10', async () => {
    const other = await Consumer.make();
    try {
      const run = await other.run('npx', '--yes', 'npm@10', 'install', packed.tarball);
      expect(run.code, run.stderr).to.equal(0);
      expect(run.stderr).to.equal('');
    } finally {
      await other.remove();
    }
  });

  describe('in an empty project', () => {
    before(async () => {
      const run = await consumer.run('npm', 'install', packed.tarball);
      expect(run.code, run.stderr).to.equal(0);
      // npm 11 and later list the packages with install scripts; nothing else may be said.
      const said = run.stderr
        .split('\n')
        .filter((line) => !/^npm (warn install-scripts|notice)|^$/.test(line));
      expect(said).to.deep.equal([]);
    });

    it('runs', async () => {
      const version = await consumer.run('npx', 'medusa-plus', '--version');
      expect(version).to.deep.equal({ code: 0, stdout: `${packageVersion()}\n`, stderr: '' });
      const doctor = await consumer.run('npx', 'medusa-plus', 'doctor', '--json');
      expect(doctor.code, doctor.stdout + doctor.stderr).to.equal(0);
      expect(JSON.parse(doctor.stdout)).to.include({ version: packageVersion(), ok: true });
    });

    it('compares, with a report that draws', async () => {
      const questions = ['--limit', '1', '--max-new-tokens', '4', '--threads', '1'];
      const args = ['compare', '--model', tinyFolder, ...questions, '--output', 'compared', '--quiet'];
      const run = await consumer.run('npx', 'medusa-plus', ...args);
      expect(run.code, run.stdout + run.stderr).to.equal(0);
      const html = await readFile(join(consumer.folder, 'compared/report.html'), 'utf8');
      const page = new Page(html).run();
      expect(page.element('chart-steps').innerHTML).to.match(/^<svg .*<rect /);
      expect(html).to.include('prefers-color-scheme: dark').and.not.include('{{');
    });

    it('is imported, and required without a warning', async () => {
      await consumer.write(
        'use.mjs',
        `import * as library from 'medusa-plus';\n${usesLibrary}await use(library);`,
      );
      await consumer.write('use.cjs', `${usesLibrary}use(require('medusa-plus'));`);
      for (const file of ['use.mjs', 'use.cjs']) {
        const run = await consumer.run(process.execPath, file, tinyFolder);
        expect(run.stderr, file).to.equal('');
        expect(run.stdout, file).to.match(/^ok [1-9]/);
      }
    });

    for (const format of ['esm', 'cjs'] as const) {
      it(`works bundled by esbuild as ${format}`, async () => {
        const extension = format === 'esm' ? 'mjs' : 'cjs';
        await consumer.write(
          'entry.mjs',
          `import * as library from 'medusa-plus';\n${usesLibrary}use(library);`,
        );
        const { warnings } = await build({
          absWorkingDir: consumer.folder,
          entryPoints: ['entry.mjs'],
          // Beside node_modules, not in it, so no package.json of medusa-plus lies above.
          outfile: `bundle.${extension}`,
          bundle: true,
          platform: 'node',
          format,
          external: ['onnxruntime-node', 'koffi'],
          logLevel: 'silent',
        });
        expect(warnings.filter(({ id }) => id !== 'empty-import-meta')).to.deep.equal([]);
        const run = await consumer.run(process.execPath, `bundle.${extension}`, tinyFolder);
        expect(run.stderr).to.equal('');
        expect(run.stdout).to.match(/^ok [1-9]/);
      });
    }

    it('has types for ES modules and CommonJS, down to TypeScript 5.6', async () => {
      const text = `
import { MedusaEngine, type GenerationChunk, CandidateTreeBuilder } from 'medusa-plus';
export async function first(): Promise<GenerationChunk | undefined> {
  const engine = await MedusaEngine.open({ threads: 1 });
  for await (const chunk of engine.generate('Hello')) return chunk;
  return undefined;
}
export const builder: CandidateTreeBuilder = new CandidateTreeBuilder();
`;
      await consumer.write('types.mts', text);
      await consumer.write('types.cts', text);
      // are-the-types-wrong, which looks at the newest above, brings this one along.
      const typescript = createRequire(require.resolve('@arethetypeswrong/core')).resolve('typescript');
      const facts = await readFile(join(typescript, '../../package.json'), 'utf8');
      expect((JSON.parse(facts) as { version: string }).version).to.match(/^5\.6\./);
      const types = join(packageRoot(), 'node_modules/@types');
      const run = await consumer.run(
        process.execPath,
        join(typescript, '../tsc.js'),
        ...['--noEmit', '--strict', '--module', 'node16', '--target', 'es2023', '--skipLibCheck', 'false'],
        ...['--typeRoots', types, '--types', 'node', 'types.mts', 'types.cts'],
      );
      expect(run.stdout).to.equal('');
      expect(run.code).to.equal(0);
    });
  });
});
