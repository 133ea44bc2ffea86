import { expect } from 'chai';
import { availableParallelism } from 'node:os';
import { availableProcessors, physicalCores } from '../../src/util/processors.js';

const cpuinfo = (processors: readonly (readonly [socket: number, core: number])[]): string =>
  processors
    .map(
      ([physical, core], i) =>
        `processor\t: ${i}\nmodel name\t: X\nphysical id\t: ${physical}\ncore id\t\t: ${core}\n`,
    )
    .join('\n');

describe('processors', () => {
  it('are counted by cores: two threads of one core are one', () => {
    const twice = [0, 1, 2, 0, 1, 2].map((core) => [0, core] as const);
    expect(physicalCores(cpuinfo(twice))).to.equal(3);
    const packages = [0, 1].flatMap((physical) => [0, 1].map((core) => [physical, core] as const));
    expect(physicalCores(cpuinfo(packages))).to.equal(4);
  });

  it('are not known where the system does not name cores', () => {
    expect(physicalCores('processor : 0\nBogoMIPS : 50\n')).to.equal(undefined);
    expect(physicalCores('')).to.equal(undefined);
  });

  it('are at least one, and no more than there are', () => {
    expect(availableProcessors()).to.be.within(1, availableParallelism());
  });
});
