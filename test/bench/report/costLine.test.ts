import { expect } from 'chai';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runInfo } from '../../../src/bench/run/formats.js';
import { readTunings } from '../../../src/models/tuningFile.js';
import { readJson } from '../../../src/util/json.js';
import { silentReport } from '../../../src/util/progressReport.js';
import { madeRun, madeTurn } from '../madeRuns.js';
import { runCli } from '../../support/cli.js';
import { copyTiny, temporaryFolder } from '../../support/tinyModel.js';
import { pathPoints } from './drawing.js';
import { Page } from './reportPage.js';

describe('the cost that was measured before a run', function () {
  this.timeout(120_000);
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => (folder = await temporaryFolder()));
  after(() => folder.remove());

  it("is drawn from the model's tuning.json, for the run's precision and threads", async () => {
    const model = await copyTiny(folder.path);
    await rm(join(model, 'tuning.json'), { force: true }); // of other tests' runs here
    const command = [
      'compare',
      '--model',
      model,
      '--limit',
      '2',
      '--max-new-tokens',
      '8',
      '--a',
      '--tree static',
    ];
    // Measurements of another precision and of other threads, which are not to be drawn.
    for (const other of [
      ['--precision', 'fp32', '--threads', '1'],
      ['--precision', 'int8', '--threads', '2'],
    ])
      expect(
        await runCli([
          'bench',
          ...command.slice(1, 7),
          ...other,
          '--output',
          join(folder.path, other.join('')),
        ]),
      ).to.have.property('code', 0);
    const output = join(folder.path, 'compared');
    const run = await runCli([...command, '--precision', 'int8', '--threads', '1', '--output', output]);
    expect(run.code, run.stderr).to.equal(0);

    const measured = Object.entries(await readTunings(model, silentReport));
    expect(measured.map(([, { curves }]) => Object.keys(curves))).to.have.deep.members([['1'], ['1', '2']]);
    const [, { curves }] = measured.find(([, each]) => '2' in each.curves)!;
    const info = JSON.parse(await readFile(join(output, 'none', 'run.json'), 'utf8')) as {
      cost_curve: unknown;
    };
    expect(info.cost_curve).to.deep.equal(asJson(curves['1']));

    const page = new Page(await readFile(join(output, 'report.html'), 'utf8'), 600).run();
    const line = pathPoints(page.element('chart-cost').innerHTML).find(({ name }) =>
      name.startsWith('measured'),
    )!;
    expect(line.points.length).to.equal(curves['1'].length);
    // As high over the axis (at 232) as the time is long, and as far along it as the logarithm of the nodes.
    const scale = (232 - line.points[0].y) / curves['1'][0].milliseconds;
    const first = line.points[0].x;
    const perDoubling = line.points[1].x - first;
    curves['1'].forEach(({ nodes, milliseconds }, index) => {
      expect(232 - line.points[index].y).to.be.closeTo(
        scale * milliseconds,
        0.06 * (1 + milliseconds / curves['1'][0].milliseconds),
      );
      expect(line.points[index].x - first).to.be.closeTo(
        perDoubling * Math.log2(nodes),
        0.1 * (1 + Math.log2(nodes)),
      );
    });
  });

  it('is left out where an earlier version kept all of tuning.json in run.json', () => {
    const { info } = madeRun('none', ['1'], () => madeTurn([1], 10));
    const read = (cost_curve: unknown): unknown =>
      readJson(runInfo, JSON.stringify({ ...info, cost_curve }), 'run.json', '').cost_curve;
    expect(read({ format: 3, measured: { machine: { curves: { '1': info.cost_curve } } } })).to.equal(null);
    expect(asJson(read(info.cost_curve))).to.deep.equal(info.cost_curve);
    expect(() => read([{ nodes: 1 }])).to.throw(/cost_curve\[0\].milliseconds must be a number/);
    expect(() => read('quick')).to.throw(/cost_curve must be a list/);
  });
});

/** As it is read back from a file: without the fields that are undefined. */
function asJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
