import { expect } from 'chai';
import { readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createRandom } from '../../src/decoding/random.js';
import { MedusaError } from '../../src/util/errors.js';
import { MedusaEngine } from '../../src/index.js';
import { verifyFiles } from '../../src/models/fileHashes.js';
import { readManifest } from '../../src/models/manifest.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

describe('Changed bytes of a model', function () {
  this.timeout(300_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let folder: string;
  before(async () => {
    temporary = await temporaryFolder();
    folder = await copyTiny(temporary.path);
  });
  after(() => temporary.remove());

  /** The token ids of a chat, or what was said of the model. */
  const answer = async (): Promise<string> => {
    let engine: MedusaEngine;
    try {
      engine = await MedusaEngine.open({ model: folder, threads: 1 });
    } catch (error) {
      expect(error).to.be.instanceOf(MedusaError);
      return (error as Error).message;
    }
    try {
      return (await engine.complete('Hi there', { maxNewTokens: 12 })).tokenIds.join(' ');
    } finally {
      await engine.dispose();
    }
  };

  /** Sizes and times of modification stay as they were: nothing but the change itself shows. */
  const flip = async (path: string, place: number, bit: number): Promise<() => Promise<void>> => {
    const bytes = await readFile(path);
    const { mtime } = await stat(path);
    const changed = Buffer.from(bytes);
    changed[place] ^= 1 << bit;
    await writeFile(path, changed);
    await utimes(path, mtime, mtime);
    return () => writeFile(path, bytes);
  };

  it('is noticed, or changes nothing', async () => {
    const whole = await answer();
    const names = (await readdir(folder)).filter(
      (name) => !name.includes('shared') && !/keep|fp32/.test(name),
    );
    expect(names).to.include.members([
      'manifest.json',
      'tokenizer_config.json',
      'verified.json',
      'tuning.json',
    ]);
    const random = createRandom(3);
    let noticed = 0;
    for (let round = 0; round < 100; round++) {
      const name = names[round % names.length];
      const { length } = await readFile(join(folder, name));
      const place = Math.floor(random() * length);
      const restore = await flip(join(folder, name), place, Math.floor(random() * 8));
      const after = await answer();
      if (after !== whole) {
        expect(after, `${name}, byte ${place}`).to.contain(name);
        noticed++;
      }
      await restore();
    }
    expect(await answer()).to.equal(whole);
    expect(noticed).to.be.above(60);
  });

  it('is found by doctor in every file that the manifest names', async () => {
    const names = (await readdir(folder)).filter((name) => !/tuning|verified|manifest/.test(name));
    for (const name of names) {
      const restore = await flip(join(folder, name), 7, 0);
      const error = await verifyFiles(folder, await readManifest(folder)).catch((each: Error) => each);
      expect((error as Error).message)
        .to.contain(name)
        .and.to.contain('was changed');
      await restore();
    }
    await verifyFiles(folder, await readManifest(folder));
  });

  it('goes unseen only in what an older manifest does not hash', async () => {
    const manifest = (await readJson(join(folder, 'manifest.json'))) as { tokenizer: object };
    await writeManifest(folder, {
      ...manifest,
      tokenizer: { ...manifest.tokenizer, config_sha256: undefined },
    });
    const restore = await flip(join(folder, 'tokenizer_config.json'), 3, 0);
    await verifyFiles(folder, await readManifest(folder));
    await restore();
  });

  it('is looked for only where a file was written since', async () => {
    const record = join(folder, 'verified.json');
    await rm(record);
    await answer();
    const kept = await readFile(record, 'utf8');
    await answer();
    expect(await readFile(record, 'utf8')).to.equal(kept);
    for (const damage of ['', '{}', '[]', '{"format":1,"files":{"a":1}}']) {
      await writeFile(record, damage);
      expect(await answer()).to.match(/^[\d ]+$/);
      expect(await readFile(record, 'utf8')).to.equal(kept);
    }
  });
});
