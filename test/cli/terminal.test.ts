/** What goes to a terminal holds no control characters but our own: those of others are shown. */
import { Chalk } from 'chalk';
import { expect } from 'chai';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { plainTable } from '../../src/bench/report/table.js';
import { RunProgress } from '../../src/bench/run/progress.js';
import { TreePrinter } from '../../src/cli/showTree.js';
import type { DecodeStep } from '../../src/decoding/types.js';
import { onTerminal, styled, terminalJson, visible, VisibleStream } from '../../src/util/terminalText.js';
import { madeRun, madeTurn } from '../bench/madeRuns.js';
import { runMain, type CliRun } from '../support/cli.js';
import { onTiny, temporaryFolder } from '../support/tinyModel.js';

const title = '\u001b]0;owned\u0007';
const red = '\u009b31m';
const controls = /[^\P{Cc}\n\t]/u;

/** The command line with stdout (or its stand-in) a terminal. */
async function onTty(args: readonly string[]): Promise<CliRun> {
  const before = process.stdout.isTTY;
  process.stdout.isTTY = true;
  try {
    return await runMain(args);
  } finally {
    process.stdout.isTTY = before;
  }
}

describe('terminal text', () => {
  it('shows control characters, and leaves lines, tabs and all other text alone', () => {
    expect(visible(`a${title}b${red}\u007f\r\n\tc\rd ü 好 👍 é`)).to.equal(
      'a\\x1b]0;owned\\x07b\\x9b31m\\x7f\n\tc\\rd ü 好 👍 é',
    );
  });

  it('takes pieces as it takes the whole, wherever they are cut', () => {
    const text = `a${title}\r\nb\r${red}c\r`;
    for (let cut = 0; cut <= text.length; cut++) {
      const stream = new VisibleStream();
      const pieces = [stream.write(text.slice(0, cut)), stream.write(text.slice(cut)), stream.end()];
      expect(pieces.join(''), `cut at ${cut}`).to.equal(visible(text));
    }
  });

  it('keeps our colours and nothing of what is put among them', () => {
    const { red: paint } = new Chalk({ level: 1 });
    const { text } = onTerminal`${styled(paint, `x${title}`)}: ${red}`;
    expect(text).to.equal(`${paint('x\\x1b]0;owned\\x07')}: \\x9b31m`);
  });

  it('is JSON that says the same', () => {
    const value = { text: `${title}${red}\u0085` };
    expect(terminalJson(value)).to.not.match(/\p{Cc}/u);
    expect(JSON.parse(terminalJson(value))).to.deep.equal(value);
  });

  it('tables have one line a row, and columns as wide as what is shown', () => {
    const table = plainTable({ head: ['name', 'n'], rows: [[`${red}a\nb`, '1']] });
    expect(table.split('\n').map((line) => line.length)).to.deep.equal([14, 14, 14]);
    expect(table).to.include('\\x9b31ma\\nb');
  });
});

describe('control sequences of others', function () {
  this.timeout(60_000);
  // At this temperature the tiny model writes all kinds of characters.
  const wild = ['generate', 'Hi', ...onTiny, '--temperature', '1', '--seed', '1', '--max-new-tokens', '200'];

  it('of the model: as they are in a pipe, shown on a terminal unless asked for', async () => {
    const piped = await runMain(wild);
    expect(piped.stdout).to.match(controls);
    const shown = await onTty(wild);
    expect(shown.stdout).to.equal(visible(piped.stdout));
    expect((await onTty([...wild, '--raw-output'])).stdout).to.equal(piped.stdout);
    const tree = await onTty([...wild, '--show-tree']);
    expect(tree.stdout).to.equal(shown.stdout);
    expect(tree.stderr).to.not.match(controls);
  });

  it('of the model in JSON', async () => {
    const { stdout } = await onTty([...wild, '--json']);
    expect(stdout.trimEnd()).to.not.match(/\p{Cc}/u);
    expect((JSON.parse(stdout) as { text: string }).text).to.match(controls);
  });

  it('of tokens in a drawn tree', () => {
    const printer = new TreePrinter({ label: () => red }, new Chalk({ level: 0 }));
    const step = { index: 0, tokens: [1] } as unknown as DecodeStep;
    expect(printer.draw(step).text).to.equal('prefill: "\\x9b31m"\n');
  });

  it('of what is typed, in messages', async () => {
    for (const args of [
      ['generate', 'Hi', '--model', title],
      ['generate', 'Hi', ...onTiny, '--tree', red],
      [title],
      ['generate', 'Hi', `--${title}`],
    ]) {
      const { code, stderr } = await runMain(args);
      expect(code, stderr).to.be.oneOf([1, 2]);
      expect(stderr).to.match(/\\x(1b|9b)/);
      expect(stderr).to.not.match(controls);
    }
  });

  it('of question ids and names in tables, notes and progress', async () => {
    const folder = await temporaryFolder();
    try {
      const paths = await Promise.all(
        (['none', 'dynamic'] as const).map(async (tree) => {
          const run = madeRun(tree, ['1', '2'], () => madeTurn([1, 1], 10));
          const path = join(folder.path, `${tree}${red}`);
          await mkdir(path);
          const records = [...run.records.values()].map((record) => ({
            ...record,
            question_id: `${record.question_id}${title}`,
            category: `${record.category}${red}`,
          }));
          if (tree === 'dynamic') records[0].repeats[0].turns[0].token_ids[1] = 7;
          const answers = records.map(({ question_id }) => ({
            ...run.answers.get('1')!,
            question_id,
          }));
          await writeFile(join(path, 'run.json'), JSON.stringify(run.info));
          await writeFile(
            join(path, 'records.jsonl'),
            records.map((line) => `${JSON.stringify(line)}\n`).join(''),
          );
          await writeFile(
            join(path, 'answers.jsonl'),
            answers.map((line) => `${JSON.stringify(line)}\n`).join(''),
          );
          return path;
        }),
      );
      const { code, stdout, stderr } = await runMain(['compare', ...paths]);
      expect(code, stderr).to.equal(3);
      expect(stdout).to.include('writing\\x9b31m').and.include('1\\x1b]0;owned\\x07');
      expect(stdout + stderr).to.not.match(controls);
    } finally {
      await folder.remove();
    }
  });

  it('of a question id in the progress bar', () => {
    let drawn = '';
    const stream = {
      isTTY: true,
      columns: 200,
      write: (text: string) => (drawn += text),
      on: () => stream,
      once: () => stream,
      removeListener: () => stream,
    } as unknown as NodeJS.WriteStream;
    const progress = new RunProgress(stream);
    progress.start(2, 0);
    progress.note(`question ${title}`);
    progress.question();
    progress.stop();
    expect(drawn).to.include('question \\x1b]0;owned\\x07');
    expect(drawn).to.not.include(title);
  });
});
