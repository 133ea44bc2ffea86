import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { MedusaError, ModelError } from '../../../src/util/errors.js';
import { interruptible } from '../../../src/engine/text/interruptible.js';

const endless = (): boolean => /^(a+)+$/.test(`${'a'.repeat(100)}b`);

describe('interruptible', () => {
  it('gives the result, or the error', () => {
    expect(interruptible(1000, 'This', () => 'x')).to.equal('x');
    expect(() =>
      interruptible(1000, 'This', () => {
        throw new RangeError('no');
      }),
    ).to.throw(RangeError, 'no');
  });

  it('ends a regular expression that backtracks without end', () => {
    expect(() => interruptible(100, 'Testing', endless)).to.throw(
      ModelError,
      /^Testing did not end within 1 s/,
    );
  });

  it('ends at Ctrl-C, which its listeners hear', () => {
    let heard = 0;
    const listen = (): void => void heard++;
    process.on('SIGINT', listen);
    try {
      let runs = 0;
      const interrupted = (): boolean => {
        // The first time the work is only found to take long.
        if (++runs === 2) process.kill(process.pid, 'SIGINT');
        return endless();
      };
      expect(() => interruptible(60_000, 'Testing', interrupted)).to.throw(MedusaError, 'Interrupted');
      expect(heard).to.equal(1);
    } finally {
      process.removeListener('SIGINT', listen);
    }
  });

  it('loses no Ctrl-C that comes while work of the usual length is done', async function () {
    this.timeout(60_000);
    const url = new URL('../../../src/engine/text/interruptible.ts', import.meta.url).href;
    const program = `
      const { interruptible } = await import(${JSON.stringify(url)});
      process.on('SIGINT', () => process.stdout.write('heard\\n'));
      process.stdout.write('ready\\n');
      for (const end = Date.now() + 30_000; Date.now() < end; await new Promise(setImmediate))
        interruptible(1000, 'This', () => Array.from({ length: 20_000 }, (_, i) => String(i)).join().length);
    `;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program]);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    try {
      expect((await lines.next()).value).to.equal('ready');
      for (let i = 0; i < 100; i++) {
        child.kill('SIGINT');
        expect((await lines.next()).value, `signal ${i}`).to.equal('heard');
      }
    } finally {
      child.kill('SIGKILL');
    }
  });
});
