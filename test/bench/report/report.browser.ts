/**
 * The report in a real browser: `npm run test:browser`. Needs Chromium (CHROMIUM names another one); not part of
 * `npm test`, which runs the page's script without a browser (page.test.ts).
 */
import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareRuns } from '../../../src/bench/compare/load.js';
import { makeReport } from '../../../src/bench/compare/makeReport.js';
import { htmlReport } from '../../../src/bench/report/html.js';
import { madeRun, madeTurn } from '../madeRuns.js';

const ids = ['1', '2', '3', '4'];
const runs = [
  madeRun('none', ids, () => madeTurn([1, 1, 1, 1], 10)),
  madeRun('static', ids, () => madeTurn([2, 2], 14)),
  madeRun('dynamic', ids, () => madeTurn([3, 1], 15)),
];

/** Uses the controls, and writes what it finds to the end of the page. */
const probe = `
document.getElementById('step-forth').click();
const wide = [...document.querySelectorAll('main *')].filter((element) =>
  !element.closest('.scroll') && element.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
document.body.dataset.wide = wide.map((element) => element.tagName + '.' + element.id).join(' ');
document.body.dataset.errors = window.errors.join(' ');
document.body.dataset.back = getComputedStyle(document.body).backgroundColor;
`;
/** Collects errors, and what the page's policy did not let happen. */
const watch = `<script>
window.errors = []; window.onerror = (message) => window.errors.push(message);
document.addEventListener('securitypolicyviolation', (event) => {
  document.documentElement.dataset.blocked = event.effectiveDirective;
});
</script>`;

/** The page with both; its policy is told of the one that it would block. */
function watched(html: string, more = ''): string {
  const hash = createHash('sha256').update(probe).digest('base64');
  return html
    .replace('<head>', `<head>${watch}`)
    .replace('script-src ', `script-src 'sha256-${hash}' `)
    .replace('</body>', `${more}<script>${probe}</script></body>`);
}

describe('the report in Chromium', function () {
  this.timeout(120_000);
  const folder = mkdtempSync(join(tmpdir(), 'medusa-browser-'));
  const page = join(folder, 'report.html');
  after(() => rmSync(folder, { recursive: true, force: true }));
  before(() => {
    const html = htmlReport(makeReport(compareRuns(runs), '1'), runs);
    writeFileSync(page, watched(html));
  });

  function chromium(address: string, ...args: string[]): string {
    const profile = mkdtempSync(join(folder, 'profile-'));
    const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
    const own = [
      '--disable-component-update',
      '--disable-sync',
      `--user-data-dir=${profile}`,
      '--hide-scrollbars',
    ];
    const { stdout, status, error } = spawnSync(
      process.env.CHROMIUM ?? 'chromium',
      ['--headless', '--no-sandbox', ...quiet, ...own, ...args, address],
      { encoding: 'utf8', maxBuffer: 2 ** 26 },
    );
    if (error) throw error;
    expect(status).to.equal(0);
    return stdout;
  }

  for (const width of [360, 800, 1600]) {
    it(`draws and reacts at ${width} pixels, without errors or overflow`, () => {
      // Windows have a least width; a frame has not.
      const frame = join(folder, `frame-${width}.html`);
      const relay = `<script>onmessage = null; const frame = document.querySelector('iframe');
        frame.onload = () => { document.body.append(frame.contentDocument.documentElement.outerHTML.replace(/</g, '[')); };</script>`;
      writeFileSync(
        frame,
        `<body><iframe src="report.html" style="width:${width}px;height:900px"></iframe>${relay}`,
      );
      const dom = chromium(
        `file://${frame}`,
        '--dump-dom',
        '--allow-file-access-from-files',
        '--window-size=1700,1000',
      );
      expect(dom).to.include('data-errors=""').and.not.include('data-blocked');
      expect(/data-wide="([^"]*)"/.exec(dom)![1]).to.equal('');
      expect(dom).to.include('data-ready="yes"');
      expect(dom.match(/\[svg /g)!.length).to.be.at.least(11);
      expect(dom).to.include('token 4').and.include('step 2, 3 nodes');
    });
  }

  it('runs no script of others, whether it stands in a field or got into the page', () => {
    const evil = `"></script><script>document.body.dataset.foreign = 'ran'</script><img src=x onerror="document.body.dataset.foreign = 'ran'">`;
    const named = runs.map((run) => ({
      ...run,
      name: `${run.name} ${evil}`,
      info: { ...run.info, questions: { ...run.info.questions, sha256: evil } },
      records: new Map([...run.records].map(([id, record]) => [id, { ...record, category: evil }])),
    }));
    const html = htmlReport(makeReport(compareRuns(named), '1'), named);
    const field = join(folder, 'field.html');
    writeFileSync(field, watched(html));
    const shown = chromium(`file://${field}`, '--dump-dom');
    expect(shown).to.include('data-errors=""').and.include('data-ready="yes"');
    expect(shown).to.not.match(/data-foreign|data-blocked|<img/);

    const broken = join(folder, 'broken.html');
    writeFileSync(broken, watched(html, evil));
    const blocked = chromium(`file://${broken}`, '--dump-dom');
    expect(blocked).to.include('<img');
    expect(blocked).to.not.include('data-foreign');
    expect(blocked).to.match(/data-blocked="(script|img)-src/);
  });

  it('is light or dark as the reader likes it', () => {
    const light = chromium(`file://${page}`, '--dump-dom');
    const dark = chromium(`file://${page}`, '--dump-dom', '--blink-settings=preferredColorScheme=0');
    expect(light).to.include('data-back="rgb(246, 247, 249)"');
    expect(dark).to.include('data-back="rgb(16, 20, 27)"');
    const shot = join(folder, 'shot.png');
    chromium(`file://${page}`, `--screenshot=${shot}`, '--window-size=1280,2400');
    expect(statSync(shot).size).to.be.above(50_000);
  });
});
