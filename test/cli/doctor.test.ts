import { expect } from 'chai';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { int8Products } from '../../src/runtime/index.js';
import { runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

interface Finding {
  state: string;
  what: string;
  detail: string;
}

describe('medusa-plus doctor', function () {
  this.timeout(60_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  const examine = async (
    ...args: string[]
  ): Promise<{ code: number | null; findings: Map<string, Finding> }> => {
    const run = await runMain(['doctor', '--json', '--models-dir', folder.path, ...args]);
    const { findings } = JSON.parse(run.stdout) as { findings: Finding[] };
    return { code: run.code, findings: new Map(findings.map((finding) => [finding.what, finding])) };
  };

  it('says what is there', async () => {
    await copyTiny(folder.path);
    const { code, findings } = await examine();
    expect(code).to.equal(0);
    expect(findings.get('ONNX Runtime')).to.deep.include({ state: 'ok' });
    expect(findings.get('ONNX Runtime')!.detail).to.match(/^1\.\d+\.\d+, .*onnxruntime/);
    expect(findings.get('tiny')!.detail)
      .to.contain('files whole')
      .and.to.match(/int8 runs on \d+ threads?( \(\d+ while .*?\))?, trees keep its greedy text/);
    expect(findings.get('smollm2-135m-instruct')).to.deep.include({ state: 'absent' });
    expect(findings.get('int8 products')).to.deep.include({ state: 'ok' });
    expect(findings.get('int8 products')!.detail).to.match(/^exact, /);
  });

  it('says when int8 weights are kept for another kind of processor', async () => {
    const tiny = await copyTiny(folder.path);
    const isUnsigned = (await int8Products()) === 'unsigned';
    for (const made of [isUnsigned, !isUnsigned]) {
      const manifest = (await readJson(join(tiny, 'manifest.json'))) as { backbones: object[] };
      const backbones = manifest.backbones.map((each) => ({ ...each, unsigned_weights: made }));
      await writeManifest(tiny, { ...manifest, backbones });
      const { state, detail } = (await examine()).findings.get('tiny')!;
      expect(state, detail).to.equal('ok');
      if (made === isUnsigned) expect(detail).not.to.contain('was made for');
      else
        expect(detail).to.match(
          /int8 was made for processors with(out)? VNNI and could (run|open) faster here: medusa-plus prepare .*--force/,
        );
    }
  });

  it('says what it measured', async () => {
    await copyTiny(folder.path);
    const { findings } = await examine('--measure');
    expect(findings.get('tiny')!.detail).to.match(
      /int8 runs on \d+ threads?.*, .*: milliseconds a step [\d.]+ \(n = 1\), .*[\d.]+ \(n = 64\)/,
    );
  });

  it('fails when the default model is damaged', async () => {
    await truncate(join(await copyTiny(folder.path, 'smollm2-135m-instruct'), 'backbone.int8.onnx.data'), 5);
    const { code, findings } = await examine();
    expect(code).to.equal(1);
    expect(findings.get('smollm2-135m-instruct')).to.deep.include({ state: 'broken' });
    expect(findings.get('smollm2-135m-instruct')!.detail).to.contain('truncated');
  });

  it('fails when the GPU build that was pointed at is none', async () => {
    const { code, findings } = await examine('--ort-library', '/nowhere/libonnxruntime.so');
    expect(code).to.equal(1);
    expect(findings.get('CUDA')!.detail).to.contain('/nowhere/libonnxruntime.so');
  });

  it('prints a line for each finding', async () => {
    const run = await runMain(['doctor', '--models-dir', folder.path]);
    expect(run.stdout).to.match(/^medusa-plus \d/);
    expect(run.stdout).to.contain(folder.path);
  });
});
