import { expect } from 'chai';
import {
  type CostMeasurement,
  judgeTargets,
  type PastCost,
  renderCost,
} from '../../scripts/cuda/costReport.js';

/** Made-up times: 14 GB read in 4 ms are 3.5 TB/s. */
const at1024: PastCost = {
  past: 1024,
  steps: [
    { nodes: 1, milliseconds: 4, toDevice: 3_000, fromDevice: 100 },
    { nodes: 64, milliseconds: 4.4, toDevice: 180_000, fromDevice: 2_048 },
  ],
  bytesRead: 14e9,
  whole: { heads: 0.3, tree: 0.01, backbone: 4.4, accept: 0.01, keep: 0.05, total: 5, runs: 4.9 },
};
const measured: CostMeasurement = {
  model: 'shape',
  provider: 'cuda',
  precision: 'fp16',
  steps: 'bound',
  copyRate: 4.3e12,
  memoryBefore: 500,
  memoryAfter: 16_500,
  table: [at1024],
};
const states = (measurement: CostMeasurement): string[] =>
  judgeTargets(measurement).map(({ state }) => state);

describe('runtime: the cost report', () => {
  it('finds every target met, and says by which numbers', () => {
    const targets = judgeTargets(measured);
    expect(targets.map(({ state }) => state)).to.deep.equal(['met', 'met', 'met', 'met']);
    expect(targets.map(({ found }) => found)).to.deep.equal(['1.100', '81.4%', '0.182 MB', '2.0%']);
    expect(targets.map(({ limit }) => limit)).to.deep.equal([
      'at most 1.100',
      'at least 80.0%',
      'at most 1.000 MB',
      'at most 2.0%',
    ]);
  });

  it('finds each missed by its own measurement alone', () => {
    const change = (steps: PastCost['steps'], rest: Partial<PastCost> = {}): CostMeasurement => ({
      ...measured,
      table: [{ ...at1024, steps, ...rest }],
    });
    const [one, many] = at1024.steps;
    expect(states(change([one, { ...many, milliseconds: 4.41 }]))).to.deep.equal([
      'not met',
      'met',
      'met',
      'met',
    ]);
    expect(states({ ...measured, copyRate: 4.4e12 })).to.deep.equal(['met', 'not met', 'met', 'met']);
    expect(states(change([one, { ...many, toDevice: 999_000 }]))[2]).to.equal('not met');
    expect(states(change([one, many], { whole: { ...at1024.whole!, runs: 4.89 } }))[3]).to.equal('not met');
  });

  it('takes the largest step of any past for what crosses PCIe', () => {
    const far = { ...at1024, past: 4096, steps: [{ ...at1024.steps[1], toDevice: 1_100_000 }] };
    expect(judgeTargets({ ...measured, table: [at1024, far] })[2]).to.include({
      found: '1.102 MB',
      state: 'not met',
    });
  });

  it('says what was not measured instead of guessing', () => {
    expect(states({ ...measured, table: [] })).to.deep.equal(Array(4).fill('not measured'));
    expect(states({ ...measured, copyRate: undefined })[1]).to.equal('not measured');
    expect(states({ ...measured, table: [{ ...at1024, past: 256 }] })).to.deep.equal([
      'not measured',
      'not measured',
      'met',
      'not measured',
    ]);
    const whole = { ...at1024.whole!, runs: undefined };
    expect(states({ ...measured, table: [{ ...at1024, whole }] })[3]).to.equal('not measured');
  });

  it('writes tables whose rows have all columns', () => {
    const text = renderCost({
      ...measured,
      table: [{ past: 256, steps: [at1024.steps[0]], bytesRead: 13e9 }, at1024],
    });
    expect(text).to.include('| 256 | 4.00 |  |  | 3250 GB/s | 75.6% |');
    expect(text).to.include('| 1024 | 4.00 | 4.40 | 1.100 | 3500 GB/s | 81.4% |');
    expect(text).to.include('GPU memory: 16000 MiB');
    expect(text).to.match(/cost\(64\)\/cost\(1\) at past 1024 \| at most 1\.100 \| 1\.100 \| \*\*met\*\*/);
    for (const table of text.split('\n\n').filter((part) => part.startsWith('|'))) {
      const columns = table
        .trim()
        .split('\n')
        .map((line) => line.split('|').length);
      expect(new Set(columns).size).to.equal(1);
    }
  });
});
