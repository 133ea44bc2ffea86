import { expect } from 'chai';
import { compareRuns } from '../../../src/bench/compare/load.js';
import { makeReport } from '../../../src/bench/compare/makeReport.js';
import { htmlReport } from '../../../src/bench/report/html.js';
import { showToken, ticks } from '../../../src/bench/report/page/text.js';
import { depthsOf, maskDrawing, rowsOf, stepAt, treeDrawing } from '../../../src/bench/report/page/trees.js';
import { movingAverage } from '../../../src/bench/report/page/views.js';
import type { PageData } from '../../../src/bench/report/pageData.js';
import { madeRun, madeTurn } from '../madeRuns.js';
import { Page } from './reportPage.js';

const runs = [
  madeRun('none', ['1', '2', '3'], () => madeTurn([1, 1, 1, 1], 10)),
  madeRun('static', ['1', '2', '3'], () => madeTurn([2, 2], 14)),
  madeRun('dynamic', ['1', '2', '3'], () => madeTurn([3, 1], 15)),
];
const html = htmlReport(makeReport(compareRuns(runs), '1'), runs);

describe('the HTML report', () => {
  it('is one file that loads nothing', () => {
    expect(html).to.not.match(/<link|<img|<iframe|\bsrc=|\bhref=|url\(|@import|https?:\/\//);
    expect(html.match(/<script/g)).to.have.length(2);
    expect(html.match(/<\/script>/g)).to.have.length(2);
  });

  it('carries its data whole', () => {
    const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(html)![1]) as PageData;
    expect(data.runs).to.deep.equal(['plain', 'static', 'dynamic']);
    expect(data.generations[0].lengths).to.deep.equal({ plain: '1111', static: '22', dynamic: '31' });
    expect(data.texts['101']).to.equal('</script><b>');
    expect(data.traces).to.have.length(4);
  });

  for (const width of [300, 620, 1200]) {
    it(`draws everything at ${width} pixels`, () => {
      const page = new Page(html, width).run();
      for (const chart of ['steps', 'speed', 'histogram', 'depth', 'stages', 'cost', 'moving']) {
        const drawn = page.element(`chart-${chart}`).innerHTML;
        expect(drawn, chart).to.match(new RegExp(`^<svg width="${width}"`));
        expect(drawn, chart).to.not.match(/NaN|undefined|Infinity/);
      }
      expect(page.element('step-trees').innerHTML).to.not.match(/NaN|undefined/);
    });
  }

  it('draws again when the window changes', () => {
    const page = new Page(html, 1200).run();
    page.resize(400);
    expect(page.element('chart-steps').innerHTML).to.match(/^<svg width="400"/);
  });

  it('shows both trees at a place of the text, with what they accepted', () => {
    const page = new Page(html, 1200).run();
    const trees = page.element('step-trees');
    expect(trees.innerHTML.match(/class="tree"/g)).to.have.length(2);
    expect(trees.innerHTML).to.include('4 nodes').and.include('60%').and.include('&lt;/script&gt;');
    expect(trees.innerHTML).to.not.include('</script>');
    expect(page.element('step-slider').max).to.equal('1');
    page.element('step-forth').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 4');
    expect(trees.innerHTML).to.include('step 2, 3 nodes').and.include('accepted none');
    page.element('step-forth').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 4');
    page.element('step-back').listeners.click();
    expect(page.element('step-label').textContent).to.equal('token 1');
    page.element('step-choice').value = '3';
    page.element('step-choice').listeners.change();
    expect(page.element('step-label').textContent).to.equal('token 1');
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

  it('lay trees out', () => {
    expect(depthsOf(step.parents)).to.deep.equal([0, 1, 1, 2]);
    expect(rowsOf(step.parents)).to.deep.equal([0.5, 0, 1, 0]);
    const drawn = treeDrawing(step, { '1': 'a<b' }, 600).text;
    expect(drawn.match(/class="node on"/g)).to.have.length(2);
    expect(drawn.match(/class="node"/g)).to.have.length(2);
    expect(drawn).to.include('a&lt;b').and.include('#2');
  });

  it('draw a mask cell for each ancestor, oneself included', () => {
    const drawn = maskDrawing(step, 100).text;
    expect(drawn.match(/class="(on|off)"/g)).to.have.length(1 + 2 + 2 + 3);
    expect(drawn.match(/class="on"/g)).to.have.length(3);
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

  it('put ticks at round values and show blanks', () => {
    expect(ticks(0, 1.7, 4)).to.deep.equal([0, 0.5, 1, 1.5]);
    expect(ticks(3, 3, 4)).to.deep.equal([3]);
    expect(showToken(' a\n', 9)).to.equal('␣a⏎');
    expect(showToken('abcdef', 4)).to.equal('abc…');
  });
});
