import { expect } from 'chai';
import { compareRuns } from '../../../src/bench/compare/load.js';
import { makeReport } from '../../../src/bench/compare/makeReport.js';
import { htmlReport } from '../../../src/bench/report/html.js';
import type { PageData } from '../../../src/bench/report/pageData.js';
import { lines, stackedRows } from '../../../src/bench/report/page/charts.js';
import { htmlOf, type Html } from '../../../src/bench/report/page/html.js';
import { showToken, ticks } from '../../../src/bench/report/page/text.js';
import { depthsOf, maskDrawing, rowsOf, stepAt, treeDrawing } from '../../../src/bench/report/page/trees.js';
import { movingAverage } from '../../../src/bench/report/page/views.js';
import { madeRun, madeTurn } from '../madeRuns.js';
import { inDrawing, pathPoints, titled, type Drawn } from './drawing.js';
import { Page } from './reportPage.js';

const ids = ['1', '2', '3'];
/** 13 tokens a turn: in 12 steps of 10 ms, 6 of 14 ms and 5 of 15 ms, after a prefill of 5 ms. */
const runs = [
  madeRun('none', ids, () => madeTurn(Array<number>(12).fill(1), 10)),
  madeRun('static', ids, () => madeTurn(Array<number>(6).fill(2), 14)),
  madeRun('dynamic', ids, () => madeTurn([3, 3, 2, 1, 3], 15)),
];
const report = makeReport(compareRuns(runs), '1');
const html = htmlReport(report, runs);
const charts = ['steps', 'speed', 'histogram', 'depth', 'stages', 'cost', 'moving'];

/** What is drawn with a title that ends so, in one place of the page. */
function bars(page: Page, chart: string, ending: string): Drawn[] {
  return titled(page.element(`chart-${chart}`).innerHTML).filter(({ title }) => title.endsWith(ending));
}

/** Each value over the first. */
function ratios(values: readonly number[]): number[] {
  return values.map((value) => value / values[0]);
}

function expectClose(values: readonly number[], expected: readonly number[], most = 0.01): void {
  expect(values.length, values.join()).to.equal(expected.length);
  values.forEach((value, index) => expect(value, values.join()).to.be.closeTo(expected[index], most));
}

describe('the HTML report', () => {
  it('is one file that loads nothing', () => {
    expect(html).to.not.match(/<link|<img|<iframe|\bsrc=|\bhref=|url\(|@import|\bimport\(|https?:\/\//);
    expect(html.match(/<script/g)).to.have.length(2);
    expect(html.match(/<\/script>/g)).to.have.length(2);
    expect(html.match(/<style>/g)).to.have.length(1);
    expect(html).to.not.include('{{');
  });

  it('carries its data whole', () => {
    const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(html)![1]) as PageData;
    expect(data.report).to.deep.equal(JSON.parse(JSON.stringify(report)));
    expect(data.runs).to.deep.equal(['plain', 'static', 'dynamic']);
    expect(data.generations.map(({ question, turn }) => `${question}/${turn}`)).to.deep.equal(
      ids.flatMap((id) => [`${id}/1`, `${id}/2`]),
    );
    for (const { lengths } of data.generations)
      expect(lengths).to.deep.equal({ plain: '111111111111', static: '222222', dynamic: '33213' });
    // The first questions of the two categories, two turns each.
    expect(data.traces.map(({ question, turn }) => `${question}/${turn}`)).to.deep.equal([
      '1/1',
      '1/2',
      '3/1',
      '3/2',
    ]);
    for (const { question, turn, steps } of data.traces) {
      for (const run of runs.slice(1))
        expect(steps[run.name]).to.deep.equal(run.traces.get(question)!.turns[turn - 1].steps);
    }
    expect(data.texts).to.deep.equal(runs[2].traces.get('1')!.texts);
    expect(data.texts['101']).to.equal('</script><b>');
  });

  for (const width of [300, 620, 1200]) {
    describe(`at ${width} pixels`, () => {
      const page = new Page(html, width).run();

      it('draws every chart as wide as its box, with nothing outside of it', () => {
        for (const chart of charts) {
          const drawing = page.element(`chart-${chart}`).innerHTML;
          expect(drawing, chart).to.match(new RegExp(`^<svg width="${width}" height="\\d+"`));
          expect(drawing, chart).to.not.match(/NaN|undefined|Infinity/);
          const { outside, count } = inDrawing(drawing);
          expect(outside, chart).to.deep.equal([]);
          expect(count, chart).to.be.above(2);
        }
        for (const drawing of page.element('step-trees').innerHTML.match(/<svg.*?<\/svg>/gs)!)
          expect(inDrawing(drawing).outside).to.deep.equal([]);
      });

      it('draws bars as long as their values, in the colours of the runs', () => {
        for (const label of ['writing', 'math', 'all']) {
          const steps = titled(page.element('chart-steps').innerHTML).filter(({ title }) =>
            title.startsWith(`${label},`),
          );
          expect(steps.map(({ title }) => title)).to.deep.equal([
            `${label}, static: 2.00`,
            `${label}, dynamic: 2.40`,
          ]);
          expectClose(ratios(steps.map((bar) => bar.width)), [1, 1.2]);
          expect(steps.map(({ color }) => color)).to.deep.equal(['var(--run-1)', 'var(--run-2)']);
        }
        // 125 ms a turn against 89 and 80
        const speeds = ['all, static: 1.40x', 'all, dynamic: 1.56x'].map(
          (title) => bars(page, 'speed', title)[0],
        );
        expectClose(ratios(speeds.map((bar) => bar.width)), [1, 89 / 80]);
      });

      it('draws columns as high as their shares', () => {
        const added = bars(page, 'histogram', '%').filter((bar) => bar.height > 0);
        expect(added.map(({ title }) => title)).to.deep.equal([
          'dynamic: 20.0%',
          'static: 100.0%',
          'dynamic: 20.0%',
          'dynamic: 60.0%',
        ]);
        expectClose(ratios(added.map((bar) => bar.height)), [1, 5, 1, 3], 0.05);
        // 1 token, 2 tokens of either run side by side, 3 tokens.
        added
          .slice(1)
          .forEach((bar, index) => expect(bar.x).to.be.above(added[index].x + added[index].width));
        // The share of all steps, not of those that came as far as the depth above.
        const depths = bars(page, 'depth', '%').filter((bar) => bar.height > 0);
        expect(depths.map(({ title }) => title)).to.deep.equal([
          'static: 100.0%',
          'dynamic: 80.0%',
          'dynamic: 60.0%',
        ]);
        expectClose(ratios(depths.map((bar) => bar.height)), [1, 0.8, 0.6]);
      });

      it('draws a run as long as its time a token, made of its stages', () => {
        const stages = bars(page, 'stages', 'ms/token').filter((bar) => bar.width > 0);
        const rows = [...new Set(stages.map(({ y }) => y))].map((y) => stages.filter((bar) => bar.y === y));
        const [, staticRow] = rows;
        expect(staticRow.map(({ title }) => title)).to.deep.equal([
          'prefill: 0.38 ms/token',
          'heads: 0.46 ms/token',
          'backbone: 5.54 ms/token',
          'keep: 0.46 ms/token',
        ]);
        const lengths = rows.map((row) => Math.max(...row.map(({ x, width }) => x + width)));
        expectClose(ratios(lengths), [1, 89 / 125, 80 / 125]);
        const [prefill, heads, backbone] = staticRow;
        expectClose([heads.x, backbone.x], [prefill.x + prefill.width, heads.x + heads.width], 0.6);
      });

      it('draws what a verification costs: as measured before the run, and as the runs saw it', () => {
        const drawing = page.element('chart-cost').innerHTML;
        const [measured, seen] = pathPoints(drawing);
        expect([measured.name, seen.name]).to.deep.equal([
          'measured before the run',
          'backbone run, as the runs saw it',
        ]);
        // 8 + nodes milliseconds at 1, 2, 4 and 8 nodes; the axis is logarithmic and begins at 0 ms.
        const [first, , , last] = measured.points;
        expectClose(
          measured.points.map(({ x }) => (x - first.x) / (last.x - first.x)),
          [0, 1 / 3, 2 / 3, 1],
        );
        const height = ({ y }: { y: number }): number => 232 - y;
        expectClose(ratios(measured.points.map(height)), [1, 10 / 9, 12 / 9, 16 / 9]);
        // 12 steps of 1 node in 8 ms; with 4 nodes 6 steps in 12 ms and 5 steps in 13 ms.
        expectClose(
          seen.points.map(({ x }) => (x - first.x) / (last.x - first.x)),
          [0, 2 / 3],
        );
        expectClose(
          seen.points.map((point) => (9 * height(point)) / height(first)),
          [8, (6 * 12 + 5 * 13) / 11],
          0.05,
        );
        expect(titled(drawing).filter(({ title }) => title.startsWith('backbone run')).length).to.equal(2);
      });

      it('draws the average of as many steps as are chosen, of the generation that is chosen', () => {
        const chart = page.element('chart-moving');
        page.element('moving-window').value = '2';
        page.element('moving-window').listeners.change();
        const [fixed, dynamic] = pathPoints(chart.innerHTML);
        expect([fixed.points.length, dynamic.points.length]).to.deep.equal([5, 4]);
        // 3, 2.5, 1.5 and 2 tokens, against always 2
        const over = dynamic.points.map(({ y }) => fixed.points[0].y - y);
        expect(over[0]).to.be.above(20);
        expectClose(ratios(over), [1, 0.5, -0.5, 0], 0.02);
        expect(chart.innerHTML).to.include('tokens per step, last 2 steps');
      });
    });
  }

  it('draws the cost of verifications with the precision of the baseline alone', () => {
    const [none, fixed, dynamic] = runs;
    const model = { ...dynamic.info.model, precision: 'fp32' };
    const mixed = [none, fixed, { ...dynamic, info: { ...dynamic.info, model } }];
    const page = new Page(htmlReport(makeReport(compareRuns(mixed), '1'), mixed)).run();
    const [measured, seen] = pathPoints(page.element('chart-cost').innerHTML);
    const scale = (232 - measured.points[0].y) / 9;
    // Static's 12 ms with 4 nodes, without dynamic's 13 ms.
    expectClose(
      seen.points.map(({ y }) => (232 - y) / scale),
      [8, 12],
      0.05,
    );
  });

  it('draws everything again when the window changes', () => {
    const page = new Page(html, 1200).run();
    const before = page.element('step-trees').innerHTML;
    page.resize(400);
    for (const chart of charts)
      expect(page.element(`chart-${chart}`).innerHTML, chart).to.match(/^<svg width="400"/);
    expect(page.element('step-trees').innerHTML).to.not.equal(before);
    for (const drawing of page.element('step-trees').innerHTML.match(/<svg width="\d+"/g)!)
      expect(Number(/\d+/.exec(drawing)![0])).to.be.below(400);
  });

  it('shows both trees at a place of the text, with what they accepted', () => {
    const page = new Page(html, 1200).run();
    const trees = page.element('step-trees');
    const shown = (): string[] => trees.innerHTML.split('<div class="tree"').slice(1);
    expect(shown().map((tree) => /<h3>(.*?) <small>/.exec(tree)![1])).to.deep.equal(['static', 'dynamic']);
    for (const tree of shown()) {
      expect(tree).to.include('step 1, 4 nodes').and.include('60%').and.include('20%').and.include('30%');
      expect(tree.match(/class="node on"/g)).to.have.length(3);
      expect(tree).to.include(
        'accepted <b>&lt;/script&gt;&lt;b&gt;</b> <b>␣two</b>, then bonus <i>⏎</i>: 3 tokens',
      );
    }
    expect(trees.innerHTML).to.not.include('</script>');
    expect(page.element('step-context').innerHTML).to.include('<mark>static</mark><span>&lt;/script&gt;');

    expect(page.element('step-slider').max).to.equal('1');
    page.element('step-forth').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 4');
    for (const tree of shown()) {
      expect(tree)
        .to.include('step 2, 3 nodes')
        .and.include('accepted none, then bonus <i>&quot;&amp;</i>: 1 token<');
      expect(tree.match(/class="node on"/g)).to.have.length(1);
    }
    page.element('step-forth').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 4');
    page.element('step-back').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 1');
    page.element('step-slider').value = '1';
    page.element('step-slider').listeners.input();
    expect(page.element('step-label').textContent).to.equal('token 4');
    page.element('step-choice').value = '3';
    page.element('step-choice').listeners.change();
    expect(page.element('step-label').textContent).to.equal('token 1');
    expect(trees.innerHTML).to.include('step 1, 4 nodes');
  });
});

describe('drawings', () => {
  const step = {
    position: 0,
    tokens: [1, 2, 3, 4],
    parents: [-1, 0, 0, 1],
    probabilities: [1, 0.5, 0.3, 0.2],
    accepted: [0, 1],
    bonus: 9,
  };

  it('lay trees out: columns by depth, leaves below each other, edges from parent to child', () => {
    expect(depthsOf(step.parents)).to.deep.equal([0, 1, 1, 2]);
    expect(rowsOf(step.parents)).to.deep.equal([0.5, 0, 1, 0]);
    const drawn = treeDrawing(step, { '1': 'a<b' }, 600).text;
    const nodes = titled(drawn);
    expect(nodes.map(({ title }) => title)).to.deep.equal([
      '"a<b" (token 1), path probability 1',
      '"#2" (token 2), path probability 0.5',
      '"#3" (token 3), path probability 0.3',
      '"#4" (token 4), path probability 0.2',
    ]);
    const [root, left, right, leaf] = nodes;
    expect(
      [left.x - root.x, right.x - root.x, leaf.x - root.x].map((x) => x / (left.x - root.x)),
    ).to.deep.equal([1, 1, 2]);
    expect(left.y).to.equal(leaf.y);
    expect(right.y).to.be.above(left.y + left.height);
    expect(root.y).to.equal((left.y + right.y) / 2);
    const middle = ({ y, height }: Drawn): number => y + height / 2;
    const edges = [...drawn.matchAll(/class="edge( on)?" d="M([\d.]+) ([\d.]+)C[^"]* ([\d.]+) ([\d.]+)"/g)];
    expect(edges.map(([, on, ...ends]) => [on === ' on', ...ends.map(Number)])).to.deep.equal(
      [
        [root, left],
        [root, right],
        [left, leaf],
      ].map(([from, to]) => [to === left, from.x + from.width, middle(from), to.x, middle(to)]),
    );
    expect(nodes.map(({ on }) => on)).to.deep.equal([true, true, false, false]);
    expect(drawn).to.include('a&lt;b').and.include('#2').and.include('50%');
  });

  it('draw a mask cell for each ancestor, oneself included, and the accepted rows in full', () => {
    const drawn = maskDrawing(step, 100).text;
    const cells = [...drawn.matchAll(/class="(on|off)" x="(\d+)" y="(\d+)"/g)].map(
      ([, kind, x, y]) => `${Number(y) / 18} ${Number(x) / 18} ${kind}`,
    );
    expect(cells).to.have.members([
      '0 0 on',
      '1 0 on',
      '1 1 on',
      '2 0 off',
      '2 2 off',
      '3 0 off',
      '3 1 off',
      '3 3 off',
    ]);
  });

  it('find the step under way at a position', () => {
    const steps = [step, { ...step, position: 3 }];
    expect(stepAt(steps, 2)).to.equal(steps[0]);
    expect(stepAt(steps, 3)).to.equal(steps[1]);
    expect(stepAt([], 3)).to.equal(undefined);
  });

  it('average over the last steps', () => {
    expect(movingAverage('1234', 2)).to.deep.equal([
      { x: 4, y: 1.5 },
      { x: 7, y: 2.5 },
      { x: 11, y: 3.5 },
    ]);
    expect(movingAverage('5', 16)).to.deep.equal([{ x: 6, y: 5 }]);
    expect(movingAverage('', 16)).to.deep.equal([]);
  });

  it('have room for what stands at their ends', () => {
    const texts = (svg: Html): { text: string; x: number; anchor: string }[] =>
      [...htmlOf(svg).matchAll(/<text[^>]* x="([\d.]+)"[^>]*?(?:text-anchor="(\w+)")?>([^<]*)</g)].map(
        ([, x, anchor = 'start', text]) => ({ text, x: Number(x), anchor }),
      );
    const points = [0, 1].map((x) => ({ x, y: 1 }));
    const swept = lines([{ name: 'a', color: 0, points }], 400, {
      xAxis: 'x',
      yAxis: 'y',
      labels: ['typical', 'nucleus'],
    });
    const last = texts(swept).find(({ text }) => text === 'nucleus')!;
    expect(last.x + (7 * 'nucleus'.length) / 2).to.be.at.most(400);
    const stages = stackedRows([{ name: 'a', parts: [{ name: 'heads', value: 33.1 }] }], 400, 'ms/token');
    const total = texts(stages).find(({ text }) => text === '33.1 ms/token')!;
    expect(total.x + 7 * total.text.length).to.be.at.most(400);
  });

  it('put ticks of whole numbers at whole numbers, and a point alone where it can be seen', () => {
    const along = (...xs: number[]): string =>
      htmlOf(
        lines([{ name: 'a', color: 0, points: xs.map((x) => ({ x, y: 1 })) }], 800, {
          xAxis: 'x',
          yAxis: 'y',
        }),
      );
    expect(along(31, 32)).to.include('>31<').and.include('>32<').and.not.match(/>31\./);
    expect(along(31, 32)).to.not.include('<circle');
    expect(along(31)).to.include('<circle');
  });

  it('put ticks at round values and show blanks', () => {
    expect(ticks(0, 1.7, 4)).to.deep.equal([0, 0.5, 1, 1.5]);
    expect(ticks(3, 3, 4)).to.deep.equal([3]);
    expect(showToken(' a\n', 9)).to.equal('␣a⏎');
    expect(showToken('abcdef', 4)).to.equal('abc…');
  });
});
