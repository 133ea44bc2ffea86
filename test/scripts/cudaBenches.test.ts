import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CostMeasurement } from '../../scripts/cuda/costReport.js';
import { folder as tiny } from '../runtime/tiny.js';

/** The programs that run.sh calls, over main memory. */
describe('runtime: the CUDA benches', function () {
  this.timeout(60_000);
  let out: string;

  before(async () => {
    out = await mkdtemp(join(tmpdir(), 'medusa-benches-'));
  });
  after(() => rm(out, { recursive: true }));

  const bench = (name: string, ...args: string[]): Promise<{ code: number; stderr: string }> =>
    new Promise((resolve) => {
      const program = join(import.meta.dirname, `../../scripts/cuda/${name}.ts`);
      const all = ['--import', 'tsx/esm', program, '--out', out, '--precision', 'fp32', ...args];
      const env = { ...process.env, MEDUSA_ORT_LIBRARY: '' };
      execFile(process.execPath, all, { env }, (error, _, stderr) =>
        resolve({ code: error ? Number(error.code ?? -1) : 0, stderr }),
      );
    });
  const memory = ['--provider', 'cpu-memory', '--rounds', '2'];
  const read = (name: string): unknown => JSON.parse(readFileSync(join(out, name), 'utf8'));

  it('measure costs, as far as the context goes', async () => {
    const sizes = ['--past', '64,4096', '--nodes', '1,64'];
    const { code, stderr } = await bench('cost', '--model', tiny, ...memory, ...sizes);
    expect(code, stderr).to.equal(0);
    const { table } = read('cost-tiny.json') as CostMeasurement;
    expect(table.map(({ past }) => past)).to.deep.equal([64, 364]);
    for (const { steps, whole } of table) {
      expect(steps.map(({ nodes }) => nodes)).to.deep.equal([1, 64]);
      expect(whole!.runs).to.be.above(0).and.below(whole!.total);
      expect(steps[1].toDevice).to.be.above(64 * 256 * 4);
    }
    expect(readFileSync(join(out, 'cost-tiny.md'), 'utf8')).to.include('at most 1.000 MB');
  });

  it('compare the ways of a step', async () => {
    const few = ['--tokens', '20', '--past', '64', '--nodes', '1,8'];
    const { code, stderr } = await bench('steps', '--model', tiny, ...memory, ...few);
    expect(code, stderr).to.equal(0);
    const { outcomes } = read('steps-tiny.json') as {
      outcomes: { steps: string; differences: string[]; tokens: number; costs: object[] }[];
    };
    expect(outcomes.map(({ steps }) => steps)).to.deep.equal(['bound', 'packed', 'graphs']);
    for (const { differences, tokens, costs } of outcomes) {
      expect(differences).to.deep.equal([]);
      expect(tokens).to.be.above(40);
      expect(costs).to.have.length(2);
    }
  });

  it('compare pairs of models', async () => {
    const pairs = join(out, 'pairs');
    await mkdir(pairs);
    for (const kind of ['group-query', 'attention-24']) await symlink(tiny, join(pairs, `${kind}-512`));
    const { code, stderr } = await bench('attention', '--pairs', pairs, ...memory, '--nodes', '1,8');
    expect(code, stderr).to.equal(0);
    const [found] = read('attention.json') as { past: number; sameToken: string; times: object[] }[];
    expect(found).to.include({ past: 447, sameToken: '32 of 32', largestLogitDifference: 0 });
    expect(found.times).to.have.length(2);
  });

  it('fail in one line without a GPU library', async () => {
    for (const name of ['cost', 'correctness']) {
      const { code, stderr } = await bench(name, '--model', tiny);
      expect(code).to.equal(1);
      expect(stderr).to.match(/^error: --provider cuda needs a GPU build of ONNX Runtime.*\n$/);
    }
  });
});
