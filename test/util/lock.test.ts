import { expect } from 'chai';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { takeLock, tryLock, type Release } from '../../src/util/lock.js';
import { isRunning, ownIdentity } from '../../src/util/processIdentity.js';
import { temporaryFolder } from '../support/tinyModel.js';

const lockModule = fileURLToPath(new URL('../../src/util/lock.ts', import.meta.url));

describe('takeLock', function () {
  this.timeout(60_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let file: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    file = join(folder.path, 'lock');
  });
  afterEach(() => folder.remove());

  /** A lock file left by somebody, last written so many seconds ago. */
  const leave = async (holder: object | string, secondsAgo = 0): Promise<void> => {
    await writeFile(file, typeof holder === 'string' ? holder : JSON.stringify(holder));
    const time = Date.now() / 1000 - secondsAgo;
    await utimes(file, time, time);
  };

  const expectTaken = async (): Promise<void> => {
    const release = tryLock(file);
    expect(release).to.be.a('function');
    await (release as Release)();
    expect(readdirSync(folder.path)).to.deep.equal([]);
  };

  it('names the process and removes the file at the end', async () => {
    const release = await takeLock(file);
    expect(JSON.parse(await readFile(file, 'utf8'))).to.include({ ...ownIdentity() });
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

  it('takes over from a dead holder', async () => {
    await leave({ ...ownIdentity(), pid: spawnSync(process.execPath, ['-e', '0']).pid });
    await expectTaken();
  });

  it('takes over when the id belongs to another process by now, this one among them', async function () {
    if (ownIdentity().born === null) return;
    expect(isRunning(ownIdentity())).to.equal(true);
    await leave({ ...ownIdentity(), born: 'earlier' });
    await expectTaken();
  });

  it('believes a holder that cannot be asked about for as long as it beats', async () => {
    for (const elsewhere of [{ host: 'another' }, { scope: 'another container' }]) {
      const holder = { ...ownIdentity(), ...elsewhere, born: 'there' };
      await leave(holder, 60);
      expect(tryLock(file)).to.include({ pid: holder.pid, host: holder.host });
      await leave(holder, 600);
      await expectTaken();
    }
  });

  it('takes over from files that name nobody, but not while they are being written', async () => {
    for (const text of ['', '999999999\n', 'nonsense', '{}', 'null']) {
      await leave(text);
      expect(tryLock(file), text).to.include({ pid: 0 });
      await leave(text, 10);
      await expectTaken();
    }
  });

  it('lets one of many processes in at a time, from a dead one on', async () => {
    const counter = join(folder.path, 'counter');
    await writeFile(counter, '0');
    await leave({ ...ownIdentity(), pid: spawnSync(process.execPath, ['-e', '0']).pid });
    const script = `
      import { readFileSync, writeFileSync } from 'node:fs';
      import { setTimeout as sleep } from 'node:timers/promises';
      import { takeLock } from ${JSON.stringify(lockModule)};
      for (let i = 0; i < 15; i++) {
        const release = await takeLock(${JSON.stringify(file)}, { pollMilliseconds: 1 });
        const count = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
        await sleep(1);
        writeFileSync(${JSON.stringify(counter)}, String(count + 1));
        await release();
      }`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
    const children = Array.from({ length: 4 }, () => spawn(process.execPath, args, { stdio: 'inherit' }));
    const ends = await Promise.all(children.map((child) => once(child, 'close')));
    const codes = ends.map(([code]) => code as number);
    expect(codes).to.deep.equal([0, 0, 0, 0]);
    expect(await readFile(counter, 'utf8')).to.equal('60');
  });

  it('gives the lock back when the process exits with it', () => {
    const script = `
      import { takeLock } from ${JSON.stringify(lockModule)};
      await takeLock(${JSON.stringify(file)});
      process.exit(7);`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
    expect(spawnSync(process.execPath, args).status).to.equal(7);
    expect(existsSync(file)).to.equal(false);
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
