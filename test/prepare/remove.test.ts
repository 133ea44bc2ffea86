import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MedusaEngine } from '../../src/index.js';
import { removeModel } from '../../src/prepare/remove.js';
import { UsageError } from '../../src/util/errors.js';
import { takeLock } from '../../src/util/lock.js';
import { silentReport } from '../../src/util/progressReport.js';
import { copyTiny, temporaryFolder } from '../support/tinyModel.js';

describe('removing a prepared model', () => {
  let models: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    models = await temporaryFolder();
    await copyTiny(models.path, 'one');
  });
  afterEach(() => models.remove());

  it('takes what interrupted work left of it, and leaves other models and what was fetched', async () => {
    await copyTiny(models.path, 'one-more');
    for (const name of ['.python', '.one.partial-1', '.one-more.partial-1']) {
      await mkdir(join(models.path, name));
      await writeFile(join(models.path, name, 'file'), '');
    }
    expect(await removeModel(models.path, 'one', silentReport)).to.equal(join(models.path, 'one'));
    expect((await readdir(models.path)).sort()).to.deep.equal(['.one-more.partial-1', '.python', 'one-more']);
  });

  it('waits for who is making the model', async () => {
    const release = await takeLock(join(models.path, '.one.lock'));
    const notes: string[] = [];
    const removing = removeModel(models.path, 'one', { note: (message) => notes.push(message) });
    await sleep(100);
    expect(existsSync(join(models.path, 'one'))).to.equal(true);
    await release();
    await removing;
    expect(notes).to.deep.equal([`Process ${process.pid} is preparing one: waiting for it.`]);
    expect(await readdir(models.path)).to.deep.equal([]);
  });

  it('leaves a program that has the model open what it has read', async () => {
    const engine = await MedusaEngine.open({ model: join(models.path, 'one'), threads: 1 });
    const ids = async (): Promise<readonly number[]> => {
      for await (const chunk of engine.generate('hello', { maxNewTokens: 8, nodes: 4 }))
        if (chunk.kind === 'end') return chunk.result.tokenIds;
      return [];
    };
    const before = await ids();
    await removeModel(models.path, 'one', silentReport);
    expect(await ids())
      .to.deep.equal(before)
      .and.to.have.length(8);
    await engine.dispose();
  });

  it('refuses where something else lies in the folder', async () => {
    const folder = join(models.path, 'one');
    for (const name of ['tuning.json.damaged', '.DS_Store']) await writeFile(join(folder, name), '');
    for (const name of ['.git', 'heads.safetensors', 'manifest.json.bak']) {
      await writeFile(join(folder, name), '');
      expect(await removeModel(models.path, 'one', silentReport).catch(String)).to.contain(
        `holds ${name}, which`,
      );
      await rm(join(folder, name));
    }
    await writeFile(join(folder, 'notes.txt'), 'mine');
    const error = await removeModel(models.path, 'one', silentReport).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(UsageError);
    expect((error as Error).message).to.contain(`${folder} holds notes.txt, which`);
    expect(await readFile(join(folder, 'notes.txt'), 'utf8')).to.equal('mine');
    await rm(join(folder, 'notes.txt'));
    await removeModel(models.path, 'one', silentReport);
    expect(await readdir(models.path)).to.deep.equal([]);
  });

  it('removes a link, not what it leads to', async () => {
    await mkdir(join(models.path, 'other'));
    await symlink(join(models.path, 'one'), join(models.path, 'other', 'link'));
    await removeModel(join(models.path, 'other'), 'link', silentReport);
    expect(await readdir(join(models.path, 'other'))).to.deep.equal([]);
    expect(existsSync(join(models.path, 'one', 'manifest.json'))).to.equal(true);
  });
});
