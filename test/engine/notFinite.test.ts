import { expect } from 'chai';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../../src/util/errors.js';
import { MedusaEngine, type GenerateOptions } from '../../src/index.js';
import { sha256Of } from '../../src/util/sha256.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

interface Stored {
  file: string;
  sha256: string;
}

/** NaN over the given share of a model's weights, as an exporter would have written it. Gives the old and the new hash. */
async function spoil(folder: string, name: string, from: number, to: number): Promise<string[]> {
  const path = join(folder, name);
  const before = await sha256Of(path);
  const bytes = await readFile(path);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  values.fill(NaN, Math.floor(from * values.length), Math.ceil(to * values.length));
  await writeFile(path, bytes);
  const manifest = (await readJson(join(folder, 'manifest.json'))) as Record<
    string,
    { precision: string; files: Stored[] }[]
  >;
  // On the CPU int8 heads would be taken.
  manifest.heads = manifest.heads.filter(({ precision }) => precision === 'fp32');
  for (const { files } of [...manifest.backbones, ...manifest.heads]) {
    for (const stored of files) if (stored.file === name) stored.sha256 = await sha256Of(path);
  }
  await writeManifest(folder, manifest);
  return [before, await sha256Of(path)];
}

const modes: Record<string, GenerateOptions> = {
  plain: { tree: 'none' },
  static: { tree: 'static', nodes: 4 },
  dynamic: { tree: 'dynamic', nodes: 4 },
  'plain sampling': { tree: 'none', temperature: 1 },
  sampling: { nodes: 4, temperature: 1 },
  nucleus: { nodes: 4, temperature: 1, topP: 0.9 },
  typical: { nodes: 4, temperature: 1, acceptance: 'typical' },
};

describe('Weights that are not finite', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let whole: string;
  before(async () => {
    temporary = await temporaryFolder();
    whole = await copyTiny(temporary.path, 'whole');
    await (await MedusaEngine.open({ model: whole, precision: 'fp32', threads: 1 })).dispose();
  });
  after(() => temporary.remove());

  const messages = async (file: string, from: number, to: number): Promise<[string, string][]> => {
    const folder = await copyTiny(temporary.path, `${file}${from}`);
    const hashes = await spoil(folder, file, from, to);
    const opening = { model: folder, precision: 'fp32', threads: 1 };
    // Measured before: the measurement would fail already, which `open` says. One on a busy machine would be repeated.
    const measured = await readFile(join(whole, 'tuning.json'), 'utf8');
    const tuning = measured.replaceAll('busyMeasurements', 'ignored');
    const [old, changed] = hashes.map((hash) => hash.slice(0, 16));
    await writeFile(join(folder, 'tuning.json'), tuning.replaceAll(old, changed));
    const engine = await MedusaEngine.open(opening);
    try {
      const all: [string, string][] = [];
      for (const [mode, options] of Object.entries(modes)) {
        const error: unknown = await engine
          .complete('Hi', { maxNewTokens: 8, ...options })
          .catch((each: unknown) => each);
        const isRight = error instanceof ModelError;
        all.push([mode, isRight ? error.message : `no ModelError: ${JSON.stringify(error)}`]);
      }
      return all;
    } finally {
      await engine.dispose();
    }
  };

  it('are noticed when a step is measured', async () => {
    const folder = await copyTiny(temporary.path, 'measured');
    await spoil(folder, 'backbone.fp32.onnx.data', 0, 1);
    const error: unknown = await MedusaEngine.open({ model: folder, precision: 'fp32', threads: 1 }).catch(
      (each: unknown) => each,
    );
    expect(error).to.be.instanceOf(ModelError);
    expect((error as Error).message).to.contain('The backbone of model tiny (fp32)');
  });

  for (const [part, from, to] of [
    ['all', 0, 1],
    ['the first half', 0, 0.5],
    ['the last tenth', 0.9, 1],
  ] as const) {
    it(`of the backbone (${part}) are noticed in every mode`, async () => {
      for (const [mode, message] of await messages('backbone.fp32.onnx.data', from, to)) {
        expect(message, mode).to.contain('The backbone of model tiny (fp32)').and.to.contain('doctor');
      }
    });
  }

  it('of the heads are noticed in every mode that asks them', async () => {
    for (const [mode, message] of await messages('heads.tiny.fp32.onnx.data', 0, 1)) {
      if (mode.startsWith('plain')) expect(message).to.contain('no ModelError: {');
      else expect(message, mode).to.contain('The heads tiny of model tiny').and.to.contain('--heads none');
    }
  });
});
