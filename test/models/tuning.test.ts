import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MedusaEngine } from '../../src/engine/engine.js';
import { openEngineParts } from '../../src/engine/open.js';
import type { EngineOptions } from '../../src/engine/options/engineOptions.js';
import type { CostPoint } from '../../src/decoding/policy/costCurve.js';
import type { Tuning } from '../../src/models/tuningFile.js';
import { copyTiny, readJson, temporaryFolder } from '../support/tinyModel.js';

interface TuningFile {
  readonly format: number;
  readonly measured: Record<string, Tuning>;
}

describe('tuning.json', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let folder: string;
  let path: string;
  beforeEach(async () => {
    temporary = await temporaryFolder();
    folder = await copyTiny(temporary.path);
    path = join(folder, 'tuning.json');
    // Other tests measure the fixture itself.
    await rm(path, { force: true });
  });
  afterEach(() => temporary.remove());

  /** Opens the model as an engine would; returns its costs and what was reported. */
  async function open(options: EngineOptions = {}): Promise<{
    costs: readonly CostPoint[];
    exactRows: boolean | undefined;
    stages: string[];
    notes: string[];
  }> {
    const stages: string[] = [];
    const notes: string[] = [];
    const report = {
      begin: (stage: string) => void stages.push(stage),
      progress: () => {},
      note: (message: string) => void notes.push(message),
    };
    const { model, costs, facts } = await openEngineParts({ threads: 1, model: folder, report, ...options });
    await model.dispose();
    return { costs, exactRows: facts.exactRows, stages, notes };
  }

  const read = async (): Promise<TuningFile> => (await readJson(path)) as unknown as TuningFile;

  /** Replaces the one measurement in the file. */
  async function change(tuning: (old: Tuning) => object): Promise<void> {
    const { format, measured } = await read();
    const [[key, old]] = Object.entries(measured);
    await writeFile(path, JSON.stringify({ format, measured: { [key]: tuning(old) } }));
  }

  it('is measured once, and holds times that do not fall as nodes are added', async () => {
    const first = await open();
    expect(first.stages).to.have.length(1);
    expect(first.exactRows).to.equal(true);
    const times = first.costs.map(({ milliseconds }) => milliseconds);
    expect(times).to.deep.equal([...times].sort((a, b) => a - b));
    await change((old) => ({ ...old, busyMeasurements: undefined }));
    const second = await open();
    expect(second.stages).to.deep.equal([]);
    expect(second.costs).to.deep.equal(first.costs);
    expect((await open({ measureAgain: true })).stages).to.have.length(1);
  });

  it('believes a measurement on a busy machine until the next start only, and keeps the lesser times', async () => {
    const { costs } = await open();
    const slow = { 1: costs.map(({ nodes }) => ({ nodes, milliseconds: 1000 + nodes })) };
    await change((old) => ({ ...old, curves: slow, busyMeasurements: { 1: 1 } }));
    const again = await open();
    expect(again.stages).to.have.length(1);
    for (const { milliseconds } of again.costs) expect(milliseconds).to.be.below(1000);
    await change((old) => ({ ...old, curves: slow, busyMeasurements: { 1: 3 } }));
    const last = await open();
    expect(last.stages).to.deep.equal([]);
    expect(last.costs[0].milliseconds).to.equal(1001);
  });

  it('is not made where the number of threads is given and nothing is to be measured', async () => {
    const { costs, stages } = await open({ measure: false });
    expect([costs, stages]).to.deep.equal([[], []]);
    expect(existsSync(path)).to.equal(false);
    const engine = await MedusaEngine.open({ model: folder, threads: 1, measure: false });
    try {
      expect((await engine.complete('Hi', { nodes: 4, maxNewTokens: 4 })).tokenIds).to.have.length(4);
      const refused = await engine.complete('Hi', { maxNewTokens: 4 }).catch((error: unknown) => error);
      expect(String(refused)).to.match(/nodes auto .*measure: false.*number of nodes/);
    } finally {
      await engine.dispose();
    }
    expect((await open({ measure: false, threads: undefined })).stages).to.have.length(1);
  });

  it('holds the curve of the threads that were found best, and of those that were asked for', async () => {
    await open({ threads: undefined });
    const [{ threads, curves }] = Object.values((await read()).measured);
    expect(Object.keys(curves)).to.deep.equal([String(threads)]);
    await open({ threads: 3 });
    expect(Object.values((await read()).measured)[0].curves).to.have.all.keys(String(threads), '3');
  });

  it('sets a file aside that cannot be read, says so once, and measures', async () => {
    await open();
    const { format, measured } = await read();
    const [key] = Object.keys(measured);
    const curve = (...nodes: number[]): object => ({
      format,
      measured: { [key]: { curves: { 1: nodes.map((each) => ({ nodes: each, milliseconds: 1 })) } } },
    });
    const damaged = [
      ['doubled nodes', JSON.stringify(curve(1, 2, 2))],
      ['no nodes', JSON.stringify(curve())],
      ['a list', '[]'],
      ['half a file', (await readFile(path, 'utf8')).slice(0, 100)],
    ];
    for (const [i, [what, text]] of damaged.entries()) {
      const aside = `${path}.damaged${i === 0 ? '' : `.${i + 1}`}`;
      await writeFile(path, text);
      const { notes, stages } = await open();
      expect(stages, what).to.have.length(1);
      expect(notes, what).to.have.length(1);
      expect(notes[0]).to.contain(path).and.to.contain(`kept as ${aside}.`);
      expect(await readFile(aside, 'utf8')).to.equal(text);
      expect((await read()).measured).to.have.property(key);
    }
  });

  it('is measured by one of several that start together', async () => {
    const opened = await Promise.all(Array.from({ length: 5 }, () => open()));
    const measuring = opened.filter(({ stages }) => stages.length > 0);
    expect(measuring).to.have.length(1);
    for (const { costs } of opened) expect(costs).to.deep.equal(measuring[0].costs);
    expect(existsSync(`${path}.lock`)).to.equal(false);
  });
});
