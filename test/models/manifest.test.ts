import { expect } from 'chai';
import { join } from 'node:path';
import { readManifest } from '../../src/models/manifest.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

interface HeadsJson {
  inputs?: { name: string; dtype: string; shape: unknown[] }[];
}

describe('readManifest', () => {
  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    temporary = await temporaryFolder();
  });
  after(() => temporary.remove());

  /** What is read of the tiny model's heads once they are changed. */
  const headsAfter = async (change: (heads: HeadsJson) => unknown) => {
    const folder = await copyTiny(temporary.path);
    const file = join(folder, 'manifest.json');
    const manifest = (await readJson(file)) as { heads: HeadsJson[] };
    manifest.heads.forEach(change);
    await writeManifest(folder, manifest);
    return (await readManifest(folder)).heads.map(({ hiddenSize, readsToken }) => ({
      hiddenSize,
      readsToken,
    }));
  };

  it('knows heads that read the next root by the inputs of their graph', async () => {
    const token = { name: 'token', dtype: 'int64', shape: [1] };
    for (const [change, facts] of [
      [() => undefined, { hiddenSize: 64, readsToken: false }],
      [(heads) => heads.inputs!.push(token), { hiddenSize: 64, readsToken: true }],
      [(heads) => heads.inputs!.unshift(token), { hiddenSize: 64, readsToken: true }],
      [(heads) => delete heads.inputs, { hiddenSize: undefined, readsToken: false }],
    ] satisfies [(heads: HeadsJson) => unknown, object][]) {
      expect(await headsAfter(change)).to.deep.equal([facts, facts]);
    }
  });
});
