/** Run folders that somebody else wrote: markup and control sequences in every field of every file a report reads. */
import { expect } from 'chai';
import { marked } from 'marked';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, parseFragment, type DefaultTreeAdapterTypes } from 'parse5';
import { compareRuns, loadRun, type LoadedRun } from '../../../src/bench/compare/load.js';
import { makeReport } from '../../../src/bench/compare/makeReport.js';
import type { Sweep } from '../../../src/bench/compare/report.js';
import { htmlReport } from '../../../src/bench/report/html.js';
import { markdownReport } from '../../../src/bench/report/markdown.js';
import { terminalReport } from '../../../src/bench/report/terminal.js';
import { ANSWERS_FILE, RECORDS_FILE, RUN_FILE, TRACE_FILE } from '../../../src/bench/run/folder.js';
import { madeRun, madeTurn } from '../madeRuns.js';
import { Page } from '../report/reportPage.js';

const hostile =
  '\u001b]0;title\u0007\u009b31m</script></style></title><x-foreign onload="f()">"\'><x-foreign onload=f()>' +
  '[link](javascript:f()) ![image](x) `<x-foreign>` &lt;x-foreign&gt;\n\n<x-foreign>\n\n[d]: javascript:f()\n\n[d] ```\n<x-foreign>';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The files of each run as JSON values. */
function files(): Record<string, Json>[] {
  const ids = ['1', '2'];
  return [
    madeRun('none', ids, () => madeTurn([1, 1, 1, 1], 10)),
    madeRun('static', ids, () => madeTurn([2, 2], 14)),
    madeRun('dynamic', ids, () => madeTurn([3, 1], 15)),
  ].map(
    ({ info, records, answers, traces }) =>
      JSON.parse(
        JSON.stringify({
          [RUN_FILE]: info,
          [RECORDS_FILE]: [...records.values()],
          [ANSWERS_FILE]: [...answers.values()],
          [TRACE_FILE]: [...traces.values()],
        }),
      ) as Record<string, Json>,
  );
}

/** The paths of all fields, items of lists as []. A key of an object is a field of its own: {}. */
function fieldsOf(value: Json, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => fieldsOf(item, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [path];
  return [`${path}.{}`, ...Object.entries(value).flatMap(([key, item]) => fieldsOf(item, `${path}.${key}`))];
}

function spoil(value: Json, field: string, path = ''): Json {
  if (path === field) return hostile;
  if (Array.isArray(value)) return value.map((item) => spoil(item, field, `${path}[]`));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries([
    ...Object.entries(value).map(([key, item]) => [key, spoil(item, field, `${path}.${key}`)]),
    ...(`${path}.{}` === field ? [[hostile, hostile]] : []),
  ]) as Json;
}

/** Whether a field is a text or null somewhere, or stands for one that is added. */
function holdsText(value: Json, field: string, path = ''): boolean {
  if (path === field) return value === null || typeof value === 'string';
  if (Array.isArray(value)) return value.some((item) => holdsText(item, field, `${path}[]`));
  if (typeof value !== 'object' || value === null) return false;
  return (
    `${path}.{}` === field ||
    Object.entries(value).some(([key, item]) => holdsText(item, field, `${path}.${key}`))
  );
}

/** Elements that no report has, handlers, links. */
function foreign(node: DefaultTreeAdapterTypes.Node): string[] {
  const own =
    'tagName' in node
      ? [
          ...(['x-foreign', 'a', 'img'].includes(node.tagName) ? [node.tagName] : []),
          ...node.attrs.filter(({ name }) => /^on|^href|^src/.test(name)).map(({ name }) => name),
        ]
      : [];
  return [...own, ...('childNodes' in node ? node.childNodes.flatMap(foreign) : [])];
}

function elements(node: DefaultTreeAdapterTypes.Node, name: string): DefaultTreeAdapterTypes.Element[] {
  const below = 'childNodes' in node ? node.childNodes.flatMap((child) => elements(child, name)) : [];
  return 'tagName' in node && node.tagName === name ? [node, ...below] : below;
}

function textOf(element: DefaultTreeAdapterTypes.Element): string {
  return element.childNodes.map((node) => ('value' in node ? node.value : '')).join('');
}

/** What the page's script draws, also after its controls were used. An error of the script is not an injection. */
function drawn(html: string): string[] {
  const page = new Page(html);
  const draw = (): string[] => [...page.elements.values()].map(({ innerHTML }) => innerHTML);
  try {
    page.run();
    const first = draw();
    page.element('step-forth')?.listeners.click?.();
    return [...first, ...draw()];
  } catch {
    return draw();
  }
}

function expectHarmless(runs: readonly LoadedRun[], sweep: Sweep | null = null): void {
  const report = makeReport(compareRuns(runs), '1', sweep);
  const html = htmlReport(report, runs);
  const document = parse(html);
  expect(foreign(document)).to.deep.equal([]);
  expect(elements(document, 'script')).to.have.length(2);
  expect(elements(document, 'style')).to.have.length(1);
  expect(elements(document, 'title').length).to.equal(1);
  for (const piece of drawn(html)) expect(foreign(parseFragment(piece))).to.deep.equal([]);
  const markdown = marked.parse(markdownReport(report), { async: false });
  expect(foreign(parseFragment(markdown)), markdown).to.deep.equal([]);
  expect(terminalReport(report).text).to.not.match(/[^\P{Cc}\n]/u);
}

describe('reports on hostile run folders', function () {
  this.timeout(120_000);
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-hostile-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function load(contents: readonly Record<string, Json>[]): Promise<LoadedRun[]> {
    const runs: LoadedRun[] = [];
    for (const [index, run] of contents.entries()) {
      const path = join(folder, String(index));
      await mkdir(path, { recursive: true });
      for (const [name, value] of Object.entries(run)) {
        const lines = Array.isArray(value) ? value.map((line) => `${JSON.stringify(line)}\n`) : [];
        await writeFile(join(path, name), name === RUN_FILE ? JSON.stringify(value) : lines.join(''));
      }
      runs.push(await loadRun(path, ['none', 'static', 'dynamic'][index]));
    }
    return runs;
  }

  for (const name of [RUN_FILE, RECORDS_FILE, ANSWERS_FILE, TRACE_FILE]) {
    it(`${name}: no field brings an element, a link or a control sequence`, async () => {
      const whole = files();
      const fields = new Set(whole.flatMap((run) => fieldsOf(run[name])));
      const refused: string[] = [];
      for (const field of fields) {
        // The same everywhere, for runs that differ are not compared.
        const runs = await load(whole.map((run) => ({ ...run, [name]: spoil(run[name], field) }))).catch(
          () => [],
        );
        try {
          if (runs.length > 0) compareRuns(runs);
          makeReport(compareRuns(runs), '1');
        } catch {
          refused.push(field);
          continue;
        }
        expectHarmless(runs);
      }
      // Texts must have come through, but for those that are names of ours, or nothing was tried.
      const texts = [...fields].filter((field) => whole.some((run) => holdsText(run[name], field)));
      const tried = texts.filter((field) => !refused.includes(field));
      expect(tried.length, refused.join(' ')).to.be.above(texts.length / 2);
      expect(tried.length).to.be.above(0);
      expect(refused).to.not.include('.questions.sha256').and.not.include('[].category');
    });
  }

  it('question ids, in all files at once', async () => {
    const fields = { [RUN_FILE]: '.questions.ids[]', [RECORDS_FILE]: '[].question_id' };
    const all = { ...fields, [ANSWERS_FILE]: '[].question_id', [TRACE_FILE]: '[].question_id' };
    const spoilt = files().map((run) =>
      Object.fromEntries(
        Object.entries(all).map(([name, field]) => [name, spoil(run[name], field)] as const),
      ),
    );
    const runs = await load(spoilt);
    expect([...runs[0].records.keys()]).to.deep.equal([hostile]);
    expectHarmless(runs);
    // Shown where outputs differ, too.
    const differing = spoil(files()[2][RECORDS_FILE], '[].question_id') as {
      repeats: { turns: { token_ids: Json[] }[] }[];
    }[];
    for (const record of differing) record.repeats[0].turns[0].token_ids[2] = 7;
    expectHarmless(await load([spoilt[0], spoilt[1], { ...spoilt[2], [RECORDS_FILE]: differing }]));
  });

  it('names of runs and of a sweep', async () => {
    const runs = (await load(files())).map((run) => ({
      ...run,
      name: `${run.name} ${hostile}`,
      folder: hostile,
    }));
    expectHarmless(runs);
    const points = runs
      .slice(1)
      .map(({ name }, index) => ({ series: hostile, value: `${hostile}${index}`, run: name }));
    expectHarmless(runs, { parameter: hostile, points });
  });

  it('lets nothing run but its own script', async () => {
    const runs = await load(files());
    const document = parse(htmlReport(makeReport(compareRuns(runs), '1'), runs));
    const policy = elements(document, 'meta')
      .find(({ attrs }) => attrs.some(({ value }) => value === 'Content-Security-Policy'))!
      .attrs.find(({ name }) => name === 'content')!.value;
    const [, script] = elements(document, 'script').map(textOf);
    const hash = createHash('sha256').update(script).digest('base64');
    expect(policy.split('; ')).to.include.members(["default-src 'none'", `script-src 'sha256-${hash}'`]);
  });
});
