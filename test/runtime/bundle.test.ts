import { expect } from 'chai';
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { ARCHIVE, headsFiles, runtimePackages } from '../../bench/cuda/bundle.js';
import { parseSize, splitFile, SUMS } from '../../bench/cuda/parts.js';

const run = promisify(execFile);
const script = join(import.meta.dirname, '../../bench/cuda/run.sh');

describe('runtime: the CUDA bundle', () => {
  let folder: string;
  let parts: string;

  before(async function () {
    if (process.platform === 'win32') this.skip();
    folder = await mkdtemp(join(tmpdir(), 'medusa-bundle-test-'));
    const content = join(folder, 'content');
    await mkdir(join(content, 'program'), { recursive: true });
    await writeFile(join(content, 'program/hello.txt'), 'hello');
    await writeFile(join(content, 'numbers'), randomBytes(200_000));
    execFileSync('tar', ['-c', '-f', join(folder, ARCHIVE), '-I', 'xz -0', '-C', content, '.']);
    parts = join(folder, 'parts');
    await splitFile(join(folder, ARCHIVE), parts, ARCHIVE, 30_000);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const unpack = (work: string, from = parts): Promise<unknown> =>
    run('bash', [script, '--parts', from, '--work', work, '--results', join(folder, 'results'), 'unpack']);

  it('reads sizes', () => {
    expect(['1000', '512K', '45M', '2G'].map(parseSize)).to.deep.equal([1000, 524288, 47185920, 2147483648]);
    for (const wrong of ['', '0', '-1', '4.5M', '45MB']) expect(() => parseSize(wrong)).to.throw(wrong);
  });

  it('cuts into parts of the size asked for, with their sums', async () => {
    const { size } = await stat(join(folder, ARCHIVE));
    const names = (await readdir(parts)).filter((name) => name !== SUMS).sort();
    expect(names)
      .to.have.length(Math.ceil(size / 30_000))
      .and.to.have.length.above(2);
    expect(names[1]).to.equal(`${ARCHIVE}.001`);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(parts, name))).size));
    expect(sizes.slice(0, -1).every((bytes) => bytes === 30_000)).to.equal(true);
    expect(sizes.reduce((a, b) => a + b)).to.equal(size);
    execFileSync('sha256sum', ['--quiet', '-c', SUMS], { cwd: parts });
  });

  it('takes heads with all that belongs to them', async () => {
    const heads = join(folder, 'heads');
    await mkdir(heads);
    const ours = ['one.conditional.json', 'one.conditional.safetensors', 'one.json', 'one.safetensors'];
    for (const name of [...ours, 'onemore.safetensors', 'two.json']) await writeFile(join(heads, name), '');
    const found = headsFiles(join(heads, 'one.safetensors')).map((path) => basename(path));
    expect(found.sort()).to.deep.equal(ours);
  });

  it('replaces the parts of an earlier, larger bundle', async () => {
    const again = join(folder, 'again');
    await splitFile(join(folder, ARCHIVE), again, ARCHIVE, 10_000);
    await splitFile(join(folder, ARCHIVE), again, ARCHIVE, 50_000);
    execFileSync('sha256sum', ['--quiet', '-c', SUMS], { cwd: again });
    expect(await readdir(again)).to.have.length(
      readFileSync(join(again, SUMS), 'utf8').trim().split('\n').length + 1,
    );
  });

  it('is put together again by run.sh', async () => {
    const work = join(folder, 'work');
    await unpack(work);
    expect(readFileSync(join(work, 'program/hello.txt'), 'utf8')).to.equal('hello');
    expect(
      readFileSync(join(work, 'numbers')).equals(readFileSync(join(folder, 'content/numbers'))),
    ).to.equal(true);
    expect(readFileSync(join(folder, 'results/status.txt'), 'utf8')).to.match(/unpack ok/);
  });

  it('refuses a damaged or missing part', async () => {
    const damaged = join(folder, 'damaged');
    await cp(parts, damaged, { recursive: true });
    await truncate(join(damaged, `${ARCHIVE}.001`), 29_999);
    const work = join(folder, 'work2');
    const fail = (): Promise<{ code: number; stderr: string }> =>
      unpack(work, damaged).then(
        () => ({ code: 0, stderr: '' }),
        (error: unknown) => error as { code: number; stderr: string },
      );
    const first = await fail();
    expect(first.code).to.equal(1);
    expect(first.stderr).to.include('missing or damaged');
    await rm(join(damaged, `${ARCHIVE}.001`));
    expect((await fail()).code).to.equal(1);
    expect(existsSync(join(work, 'program'))).to.equal(false);
  });

  it('takes the packages that the program needs, and no others', () => {
    const names = runtimePackages();
    expect(names).to.include.members([
      'node_modules/onnxruntime-node',
      'node_modules/koffi',
      'node_modules/yargs',
    ]);
    expect(names).not.to.include('node_modules/typescript').and.not.to.include('node_modules/mocha');
    expect(names.some((name) => name.includes('@koromix/koffi-'))).to.equal(true);
  });
});
