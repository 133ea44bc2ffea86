import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { program } from '../support/cli.js';
import { copyTiny, temporaryFolder } from '../support/tinyModel.js';

const run = promisify(execFile);

function onPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
}

describe('telemetry of ONNX Runtime', function () {
  this.timeout(60_000);

  it('leaves nothing in a fresh home and opens no socket (where strace can tell)', async () => {
    const temporary = await temporaryFolder();
    try {
      const model = await copyTiny(temporary.path);
      const home = join(temporary.path, 'home');
      const trace = join(temporary.path, 'trace');
      await mkdir(home);
      const command = [process.execPath, '--import', 'tsx', program];
      command.push('generate', 'Hi', '--model', model, '--threads', '1', '--max-new-tokens', '2');
      const traced = onPath('strace') ? ['strace', '-f', '-e', 'trace=%network', '-o', trace] : [];
      const [file, ...args] = [...traced, ...command];
      // Not the whole environment: ONNX Runtime keeps still by itself under many CI systems.
      const { stdout } = await run(file, args, { env: { PATH: process.env.PATH, HOME: home } });
      expect(stdout).not.to.equal('');
      expect(await readdir(home)).to.deep.equal([]);
      if (traced.length === 0) return;
      const calls = (await readFile(trace, 'utf8'))
        .split('\n')
        .filter((line) => /AF_INET|AF_NETLINK/.test(line));
      expect(calls).to.deep.equal([]);
    } finally {
      await temporary.remove();
    }
  });
});
