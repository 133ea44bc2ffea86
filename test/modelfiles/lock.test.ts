import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { takeLock } from '../../src/model/lock.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('takeLock', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let file: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    file = join(folder.path, 'lock');
  });
  afterEach(() => folder.remove());

  it('writes the process id and removes the file at the end', async () => {
    const release = await takeLock(file);
    expect(await readFile(file, 'utf8')).to.equal(`${process.pid}\n`);
    await release();
    expect(existsSync(file)).to.equal(false);
  });

  it('waits for a living holder, told once', async () => {
    const release = await takeLock(file);
    const holders: number[] = [];
    const second = takeLock(file, { pollMilliseconds: 5, onWait: (holder) => holders.push(holder) });
    await new Promise((resolve) => setTimeout(resolve, 40));
    await release();
    await (
      await second
    )();
    expect(holders).to.deep.equal([process.pid]);
  });

  it('takes over from dead holders and from files without an id', async () => {
    for (const text of ['999999999\n', '', 'nonsense', '-1']) {
      await writeFile(file, text);
      await (
        await takeLock(file)
      )();
      expect(existsSync(file)).to.equal(false);
    }
  });

  it('lets one of many in at a time', async () => {
    await writeFile(file, '999999999');
    let inside = 0;
    const work = async (): Promise<void> => {
      const release = await takeLock(file, { pollMilliseconds: 1 });
      expect(++inside).to.equal(1);
      await new Promise((resolve) => setTimeout(resolve, 2));
      inside--;
      await release();
    };
    await Promise.all(Array.from({ length: 8 }, work));
  });

  it('gives up waiting when it is aborted', async () => {
    const release = await takeLock(file);
    const controller = new AbortController();
    const second = takeLock(file, { signal: controller.signal, pollMilliseconds: 1000 });
    controller.abort();
    const error = await second.then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error?.name).to.equal('AbortError');
    await release();
  });
});
