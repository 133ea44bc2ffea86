import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runCli } from '../support/cli.js';
import { onTiny } from '../support/tinyModel.js';

const program = fileURLToPath(new URL('../../bin/medusa-plus.ts', import.meta.url));
const generate = ['generate', 'Hi', ...onTiny, '--max-new-tokens', '20'];

describe('streams that cannot be written', function () {
  this.timeout(60_000);

  it('stderr that was closed: the answer comes all the same', async () => {
    const whole = await runCli([...generate, '--show-tree']);
    const run = await runCli([...generate, '--show-tree'], {
      onStderr: (_, child) => child.stderr!.destroy(),
    });
    expect(run.code).to.equal(0);
    expect(run.stdout).to.equal(whole.stdout);
  });

  /** Runs with a stream that is always full. */
  const onFullDisk = async (
    full: 'stdout' | 'stderr',
    args: readonly string[],
  ): Promise<{ code: number; other: string }> => {
    const device = openSync('/dev/full', 'w');
    const stdio =
      full === 'stdout' ? (['ignore', device, 'pipe'] as const) : (['ignore', 'pipe', device] as const);
    const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], { stdio: [...stdio] });
    closeSync(device);
    let other = '';
    (child.stdout ?? child.stderr)!.on('data', (piece: Buffer) => (other += piece.toString()));
    const [code] = (await once(child, 'close')) as [number];
    return { code, other };
  };

  it('stdout on a full disk: one line that says so, and a failure', async function () {
    if (!existsSync('/dev/full')) return;
    for (const args of [generate, [...generate, '--json'], ['--help']]) {
      const { code, other } = await onFullDisk('stdout', [
        ...args,
        ...(args === generate ? ['--quiet'] : []),
      ]);
      expect(code, args.join(' ')).to.equal(1);
      expect(other).to.equal('medusa-plus: cannot write the output: the disk is full.\n');
    }
  });

  it('stderr on a full disk: the answer comes all the same', async function () {
    if (!existsSync('/dev/full')) return;
    const { code, other } = await onFullDisk('stderr', generate);
    expect(code).to.equal(0);
    expect(other).to.equal((await runCli(generate)).stdout);
  });
});
