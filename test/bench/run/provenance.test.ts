import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gitCommit, packageIntegrity } from '../../../src/bench/run/environment.js';

describe('where the program came from', () => {
  let parent: string;
  let installed: string;
  beforeEach(async () => {
    parent = await realpath(await mkdtemp(join(tmpdir(), 'medusa-provenance-')));
    installed = join(parent, 'node_modules', 'medusa-plus');
    await mkdir(installed, { recursive: true });
  });
  afterEach(() => rm(parent, { recursive: true, force: true }));

  /** A git project with one commit. */
  function commitIn(folder: string): string {
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', folder, '-c', 'user.name=n', '-c', 'user.email=e@x', ...args], {
        encoding: 'utf8',
      }).trim();
    git('init', '--quiet');
    git('commit', '--quiet', '--allow-empty', '--message', 'one');
    return git('rev-parse', 'HEAD');
  }

  it('is not the git project that the package happens to be installed in', async () => {
    commitIn(parent);
    expect(await gitCommit(installed)).to.equal(null);
  });

  it('is the commit of its own checkout, whatever GIT_DIR says', async () => {
    const checkout = join(parent, 'checkout');
    await mkdir(checkout);
    const commit = commitIn(checkout);
    commitIn(parent);
    process.env.GIT_DIR = join(parent, '.git');
    try {
      expect(await gitCommit(checkout)).to.equal(commit);
    } finally {
      delete process.env.GIT_DIR;
    }
  });

  it('is what npm recorded, where it did', async () => {
    expect(packageIntegrity(installed)).to.equal(null);
    expect(packageIntegrity(parent)).to.equal(null);
    const packages = { 'node_modules/medusa-plus': { version: '1.0.0', integrity: 'sha512-abc' } };
    await writeFile(join(parent, 'node_modules', '.package-lock.json'), JSON.stringify({ packages }));
    expect(packageIntegrity(installed)).to.equal('sha512-abc');
  });
});
