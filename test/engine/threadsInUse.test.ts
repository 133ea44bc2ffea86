import { expect } from 'chai';
import { ThreadsInUse, threadsFor } from '../../src/engine/threadsInUse.js';

describe('threadsFor', () => {
  it('leaves a processor to each program that is busy, and one thread in any case', () => {
    const machine = { best: 4, processors: 4 };
    expect([0, 0.3, 1, 1.2, 2.9, 4, 9].map((busy) => threadsFor(machine, busy))).to.deep.equal([
      4, 4, 3, 3, 1, 1, 1,
    ]);
    expect(threadsFor({ best: 4, processors: 8 }, 3)).to.equal(4);
    expect(threadsFor({ best: 1, processors: 2 }, 2)).to.equal(1);
  });
});

describe('ThreadsInUse', () => {
  /** @param loads what other programs took, one a second */
  async function changes(loads: (number | undefined)[], opening = 100, best = 2): Promise<string[]> {
    const made: string[] = [];
    let second = 0;
    const threads = new ThreadsInUse({
      best,
      processors: 2,
      opening,
      use: (count) => {
        made.push(`${count} after ${second} s`);
        return Promise.resolve();
      },
      others: { elapsed: 1000, busyProcessors: () => loads[second - 1] },
    });
    while (second < loads.length) {
      second++;
      await threads.follow();
    }
    return made;
  }
  const times = (count: number, load: number | undefined): (number | undefined)[] =>
    new Array<number | undefined>(count).fill(load);

  it('gives up a thread while a processor is busy, and takes it back', async () => {
    expect(await changes([...times(3, 0), ...times(5, 0.7), ...times(5, 0)])).to.deep.equal([
      '1 after 4 s',
      '2 after 10 s',
    ]);
  });

  it('waits the longer, the longer opening takes', async () => {
    expect(await changes(times(10, 1), 1400)).to.deep.equal(['1 after 6 s']);
  });

  it('changes less and less often with a program that comes and goes', async () => {
    const gusts = Array.from({ length: 200 }, (_, i) => (Math.floor(i / 4) % 2 ? 1 : 0));
    expect(await changes(gusts)).to.have.length.below(8);
  });

  it('stays where nothing is known, and where one thread is the best', async () => {
    expect(await changes(times(9, undefined))).to.deep.equal([]);
    expect(await changes(times(9, 2), 100, 1)).to.deep.equal([]);
  });
});
