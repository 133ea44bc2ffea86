import { expect } from 'chai';
import fc from 'fast-check';
import { buildTree, CandidateTreeBuilder } from '../../../src/decoding/tree/candidateTree.js';
import { CostCurve, type CostPoint } from '../../../src/decoding/policy/costCurve.js';
import { createRandom } from '../../../src/decoding/random.js';
import {
  bestTreeSize,
  Calibration,
  leastProbabilities,
  RecentRate,
  SpeculationAccount,
} from '../../../src/decoding/policy/treeSize.js';
import type { CandidateTree } from '../../../src/decoding/types.js';
import { proposalsOf } from '../../support/reference.js';

const points = (curve: Record<number, number>): CostPoint[] =>
  Object.entries(curve).map(([nodes, milliseconds]) => ({ nodes: Number(nodes), milliseconds }));

const timesOf =
  (curve: CostCurve) =>
  (nodes: number): number =>
    curve.at(nodes);

/** Measured curves: int8 rows on two threads, 4-bit weights on one, and something like a GPU. */
const cpu = points({ 1: 6.06, 2: 6.9, 4: 8.2, 6: 9.23, 8: 10.4, 12: 11.3, 16: 12.9, 24: 15.9, 64: 30.4 });
const steep = points({ 1: 6.08, 2: 6.99, 4: 10.5, 8: 15.8, 16: 26.5, 64: 90 });
const flat = points({ 1: 10, 64: 10 });

describe('CostCurve', () => {
  it('is linear between the points, constant before and straight on after them', () => {
    const curve = new CostCurve(points({ 8: 20, 2: 8, 4: 12 }));
    expect([1, 2, 3, 4, 6, 8, 12].map((nodes) => curve.at(nodes))).to.deep.equal([8, 8, 10, 12, 16, 20, 28]);
    expect(new CostCurve(points({ 1: 5 })).at(64)).to.equal(5);
  });

  it('never descends: it pools points that do', () => {
    const curve = new CostCurve(points({ 1: 5, 2: 9, 4: 7, 6: 8, 8: 20 }));
    expect([1, 2, 4, 6, 8].map((nodes) => curve.at(nodes))).to.deep.equal([5, 8, 8, 8, 20]);
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 1, maxLength: 9 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.double({ min: 0.01, max: 1e4, noNaN: true }))),
        (times, observations) => {
          const random = new CostCurve(times.map((milliseconds, i) => ({ nodes: 2 * i + 1, milliseconds })));
          for (const [nodes, time] of observations) random.observe(nodes, time);
          for (let nodes = 1; nodes < 25; nodes++)
            expect(random.at(nodes + 1)).to.be.at.least(random.at(nodes) * (1 - 1e-12));
        },
      ),
    );
  });

  it('is linear in the past, and learns behind any length of it', () => {
    const curve = new CostCurve([
      { nodes: 1, milliseconds: 10, perPosition: 0.01 },
      { nodes: 2, milliseconds: 12 },
      { nodes: 3, milliseconds: 14, perPosition: 0.02 },
      { nodes: 5, milliseconds: 20 },
    ]);
    expect([1, 2, 3, 4, 5].map((nodes) => curve.at(nodes))).to.deep.equal([10, 12, 14, 17, 20]);
    const longer = [20, 27, 34, 42, 50];
    longer.forEach((time, i) => expect(curve.at(i + 1, 1256)).to.be.closeTo(time, 1e-9));
    expect(curve.at(1, 0)).to.be.closeTo(7.44, 1e-9);
    expect(curve.stretch(1256)).to.be.closeTo(2, 1e-9);
    for (let i = 0; i < 200; i++) curve.observe(1 + (i % 5), 1.5 * longer[i % 5], 1256);
    expect(curve.at(4, 1256)).to.be.closeTo(63, 0.5);
    expect(curve.at(4)).to.be.closeTo(25.5, 0.5);
  });

  it('makes no time vanish, whatever a long past was measured to add', () => {
    const curve = new CostCurve([
      { nodes: 1, milliseconds: 1, perPosition: 5 },
      { nodes: 4, milliseconds: 2, perPosition: 0 },
    ]);
    for (const past of [0, 100, 5000])
      for (let nodes = 1; nodes < 8; nodes++) {
        expect(curve.at(nodes, past)).to.be.above(0);
        expect(curve.at(nodes + 1, past)).to.be.at.least(curve.at(nodes, past));
      }
  });

  it('refuses points that cannot be measurements', () => {
    expect(() => new CostCurve([])).to.throw(RangeError, /at least one/);
    for (const bad of [0, -1, NaN, Infinity]) {
      expect(() => new CostCurve(points({ 1: 5, 2: bad }))).to.throw(RangeError, /2 nodes = /);
      if (bad === 0) continue;
      const bent = [{ nodes: 1, milliseconds: 1, perPosition: bad }];
      expect(() => new CostCurve(bent)).to.throw(RangeError, /1 nodes = /);
    }
    expect(() => new CostCurve([...points({ 1: 5 }), ...points({ 1: 6 })])).to.throw(RangeError, /twice/);
  });

  it('follows a machine that is slower than when it was measured', () => {
    const curve = new CostCurve(cpu);
    for (let i = 0; i < 200; i++) curve.observe(i % 2 ? 4 : 8, i % 2 ? 16.4 : 20.8);
    expect(curve.at(4)).to.be.closeTo(16.4, 0.2);
    expect(curve.at(8)).to.be.closeTo(20.8, 0.2);
    expect(curve.at(1)).to.be.above(7);
  });

  it('keeps the ratio of sizes that are not taken to their neighbours, whatever larger trees take', () => {
    const measured = new CostCurve(cpu);
    const slower = new Map(Object.entries({ 4: 1.1, 8: 1.15, 12: 1.2, 16: 1.25, 24: 1.3 }));
    const curve = new CostCurve(cpu);
    const sizes = [2, 2, 2, 4, 2, 2, 8, 2, 2, 12, 2, 4, 2, 2, 16, 2, 2, 4, 2, 24];
    for (let i = 0; i < 400; i++) {
      const nodes = sizes[i % sizes.length];
      curve.observe(nodes, measured.at(nodes) * (slower.get(`${nodes}`) ?? 1));
    }
    const shift = (nodes: number): number => curve.at(nodes) / measured.at(nodes);
    for (const [nodes, factor] of slower) expect(shift(Number(nodes)), nodes).to.be.closeTo(factor, 0.05);
    expect(shift(2)).to.be.closeTo(1, 0.01);
    expect(shift(1)).to.be.closeTo(1, 0.02);
  });

  it('does not drift where two nodes take less time than one', () => {
    const times = new Map([
      [1, 28],
      [2, 27],
      [4, 45],
      [8, 85],
      [16, 160],
    ]);
    const curve = new CostCurve([...times].map(([nodes, milliseconds]) => ({ nodes, milliseconds })));
    for (let i = 0; i < 5000; i++) curve.observe(1 + (i % 2), times.get(1 + (i % 2))!);
    for (const nodes of [4, 8, 16])
      expect(curve.at(nodes), `${nodes}`).to.be.closeTo(times.get(nodes)!, 0.01);
    expect(curve.at(1)).to.equal(curve.at(2)).and.to.be.closeTo(27.5, 0.01);
  });

  it('is hardly moved by single stalls', () => {
    const curve = new CostCurve(cpu);
    for (let i = 0; i < 200; i++) curve.observe(4, i % 20 === 0 ? 500 : 8.2);
    expect(curve.at(4)).to.be.within(8, 9.1);
    curve.observe(4, 0);
    curve.observe(4, NaN);
    expect(curve.at(4)).to.be.within(8, 9.1);
  });
});

describe('bestTreeSize', () => {
  const probabilities = [1, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001];
  const size = (curve: CostPoint[], rate: number, p = probabilities): number =>
    bestTreeSize(p, p.length, timesOf(new CostCurve(curve)), rate);

  it('takes everything where nodes cost nothing', () => {
    expect(size(flat, 0.2)).to.equal(10);
  });

  it('stops where a node costs more time than its tokens are worth', () => {
    expect(size(steep, 1.3 / 6.08)).to.equal(3);
    expect(size(steep, 2.5 / 6.08)).to.equal(2);
    expect(size(cpu, 1.5 / 6.06)).to.equal(5);
  });

  it('takes the root alone when the candidates are worthless', () => {
    expect(size(cpu, 1 / 6.06, [1, 0.05, 0.04, 0.03])).to.equal(1);
    expect(size(flat, 1 / 10, [1, 0, 0])).to.equal(1);
  });

  it('looks beyond an expensive node for cheap ones: T need not be convex', () => {
    const blocks = points({ 1: 5, 2: 8, 6: 8, 7: 11 });
    expect(size(blocks, 0.2, [1, 0.25, 0.2, 0.2, 0.15, 0.1, 0.1])).to.equal(6);
  });

  it('is the best of all sizes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
        fc.array(fc.double({ min: 0.1, max: 5, noNaN: true }), { minLength: 21, maxLength: 21 }),
        fc.double({ min: 0.01, max: 2, noNaN: true }),
        (values, increments, rate) => {
          const p = [1, ...values.sort((a, b) => b - a)];
          let time = 0;
          const curve = increments.map((increment, i) => ({
            nodes: i + 1,
            milliseconds: (time += increment),
          }));
          const gain = (n: number): number =>
            p.slice(0, n).reduce((sum, each) => sum + each, 0) - rate * curve[n - 1].milliseconds;
          const best = gain(size(curve, rate, p));
          for (let n = 1; n <= p.length; n++) expect(best).to.be.at.least(gain(n) - 1e-9);
        },
      ),
    );
  });
});

describe('leastProbabilities', () => {
  it('are what the cheapest larger tree asks of its nodes', () => {
    const costs = new CostCurve(points({ 1: 10, 2: 16, 3: 17, 4: 25 }));
    const least = Array.from(leastProbabilities(4, timesOf(costs), 0.1, new Float64Array(4)));
    // From 1 node: 3 nodes cost 3.5 ms each, fewer than 2 (6 ms) or 4 (5 ms); from 2: 3 cost 1 ms more.
    [0.35, 0.1, 0.8].forEach((expected, i) => expect(least[i]).to.be.closeTo(expected, 1e-12));
    expect(least[3]).to.equal(Infinity);
  });

  it('end a search without changing the size it finds', () => {
    const times = fc.array(fc.double({ min: 0.01, max: 5, noNaN: true }), { minLength: 2, maxLength: 12 });
    const list = fc.array(fc.double({ min: 0.001, max: 1, noNaN: true }), { minLength: 6, maxLength: 6 });
    let shorter = 0;
    fc.assert(
      fc.property(
        times,
        fc.array(list, { minLength: 1, maxLength: 4 }),
        fc.double({ min: 0.01, max: 2, noNaN: true }),
        (increments, heads, rate) => {
          let time = 5;
          const costs = new CostCurve(
            increments.map((increment, i) => ({ nodes: 1 + 3 * i, milliseconds: (time += increment) })),
          );
          const proposals = proposalsOf(
            heads.map((weights) => {
              const sum = weights.reduce((a, b) => a + b) * 1.1;
              return weights.map((weight) => weight / sum).sort((a, b) => b - a);
            }),
          );
          const whole = new CandidateTreeBuilder();
          const found = whole.find(1, proposals, { nodes: 32, depth: 4 });
          const size = bestTreeSize(whole.probabilities, found, timesOf(costs), rate);
          const ended = new CandidateTreeBuilder();
          const least = leastProbabilities(32, timesOf(costs), rate, new Float64Array(32));
          const foundFirst = ended.find(1, proposals, { nodes: 32, depth: 4, least });
          expect(bestTreeSize(ended.probabilities, foundFirst, timesOf(costs), rate)).to.equal(size);
          expect(ended.take(size)).to.deep.equal(whole.take(size));
          if (foundFirst < found) shorter++;
        },
      ),
      { numRuns: 500 },
    );
    expect(shorter).to.be.above(50);
  });
});

describe('RecentRate', () => {
  it('begins with the rate of plain decoding and follows the recent steps', () => {
    const rate = new RecentRate();
    expect(rate.value(8)).to.equal(1 / 8);
    for (let i = 0; i < 500; i++) rate.observe(2, 10);
    expect(rate.value(8)).to.be.closeTo(0.2, 0.01);
    for (let i = 0; i < 500; i++) rate.observe(1, 10);
    expect(rate.value(8)).to.be.closeTo(0.1, 0.01);
  });
});

describe('Calibration', () => {
  /** All candidates of two heads that vouch for 0.9 each, corrected as the policy does. */
  const treeOf = (calibration: Calibration): CandidateTree =>
    buildTree(
      0,
      proposalsOf([
        [0.6, 0.3],
        [0.8, 0.1],
      ]),
      { nodes: 7, depth: 2, correction: calibration.factors },
    );

  it('leaves honest heads alone', () => {
    const calibration = new Calibration(2);
    const random = createRandom(5);
    const deviations = [0, 0];
    for (let i = 0; i < 3000; i++) {
      const first = random() < 0.9;
      const second = first && random() < 0.9;
      calibration.observe(treeOf(calibration), second ? [0, 1, 3] : first ? [0, 1] : [0]);
      calibration.factors.forEach((factor, head) => (deviations[head] += Math.abs(factor - 1) / 3000));
    }
    expect(Math.max(...deviations)).to.be.below(0.05);
  });

  it('lowers the head that promises too much, and that head only', () => {
    const calibration = new Calibration(2);
    for (let i = 0; i < 200; i++) calibration.observe(treeOf(calibration), i % 10 < 9 ? [0, 1] : [0]);
    expect(calibration.factors[0]).to.be.closeTo(1, 0.08);
    expect(calibration.factors[1]).to.be.below(0.1);
  });

  it('knows its own factors in the trees it is shown', () => {
    const calibration = new Calibration(1);
    // The head says 0.8 and is right in 40% of the steps.
    for (let i = 0; i < 500; i++) {
      const corrected = buildTree(0, proposalsOf([[0.8]]), {
        nodes: 2,
        depth: 1,
        correction: calibration.factors,
      });
      calibration.observe(corrected, i % 5 < 2 ? [0, 1] : [0]);
    }
    expect(calibration.factors[0]).to.be.closeTo(0.5, 0.06);
  });

  it('is trusted the more it was checked', () => {
    const calibration = new Calibration(2);
    expect(calibration.trust).to.equal(0);
    for (let i = 0; i < 100; i++) calibration.observe(treeOf(calibration), [0, 1]);
    expect(calibration.trust).to.be.within(0.7, 1);
  });

  it('learns nothing where nothing was on offer', () => {
    const calibration = new Calibration(2);
    const impossible = buildTree(0, proposalsOf([[0], [0]]), { nodes: 3, depth: 2 });
    for (let i = 0; i < 50; i++) calibration.observe(impossible, [0]);
    expect([...calibration.factors]).to.deep.equal([1, 1]);
  });
});

describe('SpeculationAccount', () => {
  /** Plain steps and time, in plain steps, that `steps` steps take when each try adds `tokens` at `cost`. */
  function run(steps: number, tokens: number, cost: number): { tokens: number; time: number; tries: number } {
    const account = new SpeculationAccount();
    const total = { tokens: 0, time: 0, tries: 0 };
    for (let i = 0; i < steps; i++) {
      if (account.open) {
        account.speculated(tokens, cost, 1);
        total.tokens += tokens;
        total.time += cost;
        total.tries++;
      } else {
        account.decodedPlainly(1);
        total.tokens++;
        total.time++;
      }
    }
    return total;
  }

  it('keeps speculating while it pays', () => {
    expect(run(1000, 2, 1.5).tries).to.equal(1000);
    expect(run(1000, 1.01, 1).tries).to.equal(1000);
  });

  it('costs hopeless heads a few steps at first and next to nothing in the long run', () => {
    for (const cost of [1.1, 1.5, 3]) {
      const short = run(256, 1, cost);
      expect(short.time / short.tokens, `cost ${cost}`).to.be.below(1.03);
      const long = run(20000, 1, cost);
      expect(long.time / long.tokens, `cost ${cost}`).to.be.below(1.01);
      expect(long.tries).to.be.above(10);
    }
  });

  it('comes back when speculation begins to pay', () => {
    const account = new SpeculationAccount();
    while (account.open) account.speculated(1, 2, 1);
    for (let i = 0; i < 2000; i++) {
      if (account.open) account.speculated(1, 2, 1);
      else account.decodedPlainly(1);
    }
    let plain = 0;
    for (let i = 0; i < 2000; i++) {
      if (account.open) account.speculated(3, 1.5, 1);
      else {
        account.decodedPlainly(1);
        plain++;
      }
    }
    expect(plain).to.be.below(400);
    expect(account.open).to.equal(true);
  });

  it('says that the first try after a pause is one', () => {
    const account = new SpeculationAccount();
    expect(account.probing).to.equal(false);
    while (account.open) account.speculated(1, 2, 1);
    while (!account.open) account.decodedPlainly(1);
    expect(account.probing).to.equal(true);
    account.speculated(3, 1, 1);
    expect(account.probing).to.equal(false);
  });

  it('forgives a debt that no allowance could pay back', () => {
    const account = new SpeculationAccount();
    account.speculated(1, 10000, 1);
    let pause = 0;
    for (; !account.open; pause++) account.decodedPlainly(1);
    expect(pause).to.be.below(200);
  });

  it('opens at once when plain steps turn out to be slower than was believed', () => {
    const account = new SpeculationAccount();
    // 2.4 tokens in 42 ms, while a plain step is believed to take 13 ms and takes 28.
    while (account.open) account.speculated(2.4, 42, 13);
    account.decodedPlainly(28);
    expect(account.open).to.equal(true);
    expect(account.probing).to.equal(false);
  });

  it('stays closed when plain steps take what was believed, or a little more', () => {
    for (const plainTime of [10, 10.5]) {
      const account = new SpeculationAccount();
      while (account.open) account.speculated(1.2, 20, 10);
      for (let i = 0; i < 40; i++) account.decodedPlainly(plainTime);
      expect(account.open).to.equal(false);
    }
  });
});
