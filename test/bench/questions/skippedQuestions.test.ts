import { expect } from 'chai';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '../../support/cli.js';

const tiny = fileURLToPath(new URL('../../fixtures/tiny', import.meta.url));

describe('questions that are too long, from the command line', function () {
  this.timeout(120_000);
  let folder: string;
  let common: string[];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-skip-'));
    const questions = join(folder, 'questions.jsonl');
    const turns = ['One?', 'word '.repeat(2000), 'Three?'];
    const lines = turns.map((turn, index) => ({ question_id: index + 1, category: 'a', turns: [turn] }));
    await writeFile(questions, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    common = ['--model', tiny, '--questions', questions, '--max-new-tokens', '4', '--nodes', '4'];
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('bench skips them, says how many and why, and ends with 1, the second time too', async () => {
    const output = join(folder, 'run');
    for (const time of ['first', 'second']) {
      const run = await runCli(['bench', ...common, '--output', output, '--json']);
      expect(run.code, time + run.stderr).to.equal(1);
      expect(JSON.parse(run.stdout)).to.include({ status: 'complete', questions: 2, skipped: 1 });
      expect(run.stderr)
        .to.match(
          /1 of 3 questions could not be asked and was skipped: question 2, turn 1: The prompt has \d+/,
        )
        .and.include('skipped.jsonl')
        .and.not.match(/^\s+at /m);
    }
    const skipped = JSON.parse(await readFile(join(output, 'skipped.jsonl'), 'utf8')) as object;
    expect(skipped).to.include({ question_id: 2, category: 'a', repeat: 0, turn: 1 });
  });

  it('bench --on-error stop ends there', async () => {
    const args = ['bench', ...common, '--output', join(folder, 'stop'), '--on-error', 'stop'];
    const run = await runCli(args);
    expect(run.code, run.stderr).to.equal(1);
    expect(run.stderr).to.match(/Question 2 \(dynamic nodes=4\), turn 1: The prompt has/);
    const wrong = await runCli([...args, '--on-error', 'continue']);
    expect(wrong.code).to.equal(2);
  });

  it('compare says why where no question is left', async () => {
    const output = join(folder, 'none');
    const questions = join(folder, 'long.jsonl');
    await writeFile(
      questions,
      JSON.stringify({ question_id: 7, category: 'a', turns: ['word '.repeat(2000)] }),
    );
    const args = ['compare', ...common, '--a=--tree dynamic', '--output', output];
    const run = await runCli(args.map((each) => (each === common[3] ? questions : each)));
    expect(run.code, run.stderr).to.equal(1);
    expect(run.stderr).to.match(
      /no question in common\. All runs: 1 of 1 question could not be asked and was skipped: question 7, turn 1: The prompt has/,
    );
  });

  it('compare leaves them out, says so, and ends with 1', async () => {
    const output = join(folder, 'compare');
    const run = await runCli(['compare', ...common, '--a=--tree dynamic', '--output', output]);
    expect(run.code, run.stderr).to.equal(1);
    const said = (run.stdout + run.stderr).match(/[\w ]+: 1 of 3 questions could not be asked/g);
    expect(said).to.deep.equal([' All runs: 1 of 3 questions could not be asked']);
    const report = JSON.parse(await readFile(join(output, 'report.json'), 'utf8')) as { notes: string[] };
    expect(report.notes.filter((note) => note.includes('could not be asked'))).to.have.length(1);
    expect(report.notes.join('\n')).to.include('Skipped questions are left out of all runs');
  });
});
