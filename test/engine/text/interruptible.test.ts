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
      const interrupted = (): boolean => {
        process.kill(process.pid, 'SIGINT');
        return endless();
      };
      expect(() => interruptible(60_000, 'Testing', interrupted)).to.throw(MedusaError, 'Interrupted');
      expect(heard).to.equal(1);
    } finally {
      process.removeListener('SIGINT', listen);
    }
  });
});
