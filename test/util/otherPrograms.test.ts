import { expect } from 'chai';
import { OtherPrograms } from '../../src/util/otherPrograms.js';

describe('OtherPrograms', () => {
  const of = (...readings: ([now: number, busy: number, own: number] | undefined)[]): OtherPrograms =>
    new OtherPrograms(() => {
      const [now, busy, own] = readings.shift() ?? [];
      return now === undefined ? undefined : { now, busy: busy!, own: own! };
    });

  it('counts what processors did for others since the last reading', () => {
    const others = of([100, 5000, 80], [300, 5400, 280], [400, 5410, 290], [500, 5510, 400]);
    expect([1, 2, 3].map(() => others.busyProcessors())).to.deep.equal([1, 0, 0]);
  });

  it('knows nothing where the system says nothing', () => {
    expect(of().busyProcessors()).to.equal(undefined);
    expect(of([1, 1, 1]).busyProcessors()).to.equal(undefined);
    expect(of([1, 1, 1], [1, 1, 1]).busyProcessors()).to.equal(undefined);
  });

  it('reads the real machine', () => {
    const others = new OtherPrograms();
    const begin = performance.now();
    while (performance.now() - begin < 30);
    expect(others.elapsed).to.be.at.least(30);
    expect(others.busyProcessors() ?? 0).to.be.at.least(0);
  });
});
