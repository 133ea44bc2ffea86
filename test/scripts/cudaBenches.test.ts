import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { folder as tiny } from '../runtime/tiny.js';
import { temporaryFolder } from '../support/tinyModel.js';

/** The programs of docs/cuda.md, over main memory. */
describe('scripts: what measures a card', function () {
  this.timeout(60_000);
  let out: Awaited<ReturnType<typeof temporaryFolder>>;

  before(async () => {
    out = await temporaryFolder();
  });
  after(() => out.remove());

  interface Run {
    readonly code: number;
    readonly stdout: string;
    readonly stderr: string;
  }
  const run = (name: string, ...args: string[]): Promise<Run> =>
    new Promise((resolve) => {
      const program = join(import.meta.dirname, `../../scripts/cuda/${name}.ts`);
      const all = ['--import', 'tsx/esm', program, '--model', tiny, '--precision', 'fp32', ...args];
      const env = { ...process.env, MEDUSA_PLUS_ORT_LIBRARY: '' };
      execFile(process.execPath, all, { env }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      );
    });
  const read = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

  it('measures costs, as far as the context goes', async () => {
    const path = join(out.path, 'cost.json');
    const sizes = ['--past', '64,4096', '--nodes', '1,64', '--rounds', '2'];
    const { code, stdout, stderr } = await run('cost', '--provider', 'cpu-memory', '--out', path, ...sizes);
    expect(code, stderr).to.equal(0);
    const { rows } = read(path) as { rows: { past: number; milliseconds: number[]; ratio: number }[] };
    expect(rows.map(({ past }) => past)).to.deep.equal([64, 448]);
    for (const { milliseconds, ratio } of rows) {
      expect(ratio).to.equal(milliseconds[1] / milliseconds[0]);
      expect(milliseconds[0]).to.be.above(0);
    }
    const table = stdout.split('\n').filter((line) => line.startsWith('|'));
    expect(table).to.have.length(4);
    expect(new Set(table.map((line) => line.split('|').length)).size).to.equal(1);
  });

  it('finds trees, captured steps and rows right', async () => {
    const path = join(out.path, 'correctness.json');
    const few = ['--limit', '2', '--tokens', '30'];
    const { code, stderr } = await run('correctness', '--provider', 'cpu-memory', '--out', path, ...few);
    expect(code, stderr).to.equal(0);
    const found = read(path) as {
      treesAgainstPlain: object[];
      treeRowsAgainstCausal: { past: number; rows: number; sameToken: number }[];
      agreementWithFloat32OnCpu: object;
    };
    expect(found).to.deep.include({ prompts: 2, tokens: 60, promptsThatDifferWithCudaGraphs: 0 });
    expect(found.treesAgainstPlain).to.deep.equal([]);
    expect(found.treeRowsAgainstCausal).to.have.length(1);
    expect(found.treeRowsAgainstCausal[0]).to.include({ past: 100, rows: 32, sameToken: 32 });
    expect(found.agreementWithFloat32OnCpu).to.deep.equal({ positions: 60, same: 60, rate: 1 });
  });

  it('ends in one line without a GPU library', async () => {
    for (const name of ['cost', 'correctness', 'memory']) {
      const { code, stderr } = await run(name);
      expect(code).to.equal(1);
      expect(stderr).to.match(/^error: --provider cuda needs a GPU build of ONNX Runtime.*\n$/);
    }
  });
});
