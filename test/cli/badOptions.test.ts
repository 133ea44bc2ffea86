import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runMain } from '../support/cli.js';
import { onTiny, temporaryFolder, tinyFolder } from '../support/tinyModel.js';

const tiny = ['generate', 'Hi', ...onTiny];

/** Every message is one clear text: what is wrong, no stack trace. */
async function expectUsageError(args: readonly string[], ...words: string[]): Promise<void> {
  const run = await runMain(args);
  expect(run.code, run.stderr).to.equal(2);
  expect(run.stdout).to.equal('');
  for (const word of words) expect(run.stderr).to.contain(word);
  expect(run.stderr).to.not.match(/^\s+at /m);
}

describe('Bad options', function () {
  this.timeout(60_000);

  const cases: [name: string, args: string[], words: string[]][] = [
    ['not a number', ['--temperature', 'abc'], ['--temperature', '"abc"', 'from 0 to 100']],
    ['NaN', ['--temperature', 'NaN'], ['--temperature', '"NaN"']],
    ['infinity', ['--temperature', 'Infinity'], ['--temperature', '"Infinity"']],
    ['negative temperature', ['--temperature', '-1'], ['--temperature', '"-1"']],
    ['hexadecimal', ['--seed', '0x10'], ['--seed', '"0x10"']],
    ['negative seed', ['--seed', '-1'], ['--seed', 'from 0']],
    ['no nodes', ['--nodes', '0'], ['--nodes', 'from 1 to 1024', '"0"']],
    ['half a node', ['--nodes', '1.5'], ['--nodes', 'whole number']],
    ['too many nodes', ['--nodes', '99999'], ['--nodes', '1024']],
    ['no tokens', ['--max-new-tokens', '0'], ['--max-new-tokens', 'from 1']],
    ['repeated option', ['--nodes', '4', '--nodes', '8'], ['--nodes', '2 times', '4, 8']],
    ['missing value', ['--nodes'], ['nodes']],
    ['empty value', ['--heads', ''], ['--heads', 'empty']],
    ['unknown tree', ['--tree', 'oak'], ['--tree', 'dynamic, static, none', '"oak"']],
    ['unknown acceptance', ['--acceptance', 'all'], ['--acceptance', 'greedy, sampling, typical, nucleus']],
    ['unknown provider', ['--provider', 'tpu'], ['--provider', 'cpu, cuda, auto']],
    ['unknown option', ['--nodez', '4'], ['nodez']],
    ['two prompts', ['again'], ['again']],
    ['top-p of 0', ['--top-p', '0', '--temperature', '1'], ['--top-p', 'above 0']],
    ['top-p without temperature', ['--top-p', '0.5'], ['top-p', 'nucleus']],
    ['greedy with temperature', ['--acceptance', 'greedy', '--temperature', '1'], ['temperature']],
    ['sampling without temperature', ['--acceptance', 'sampling'], ['temperature above 0']],
    ['unknown joint', ['--joint', 'sum'], ['--joint', 'product, conditional', '"sum"']],
    [
      'conditional without a table',
      ['--joint', 'conditional'],
      ['heads tiny', 'none', '--heads FILE', 'product'],
    ],
    ['conditional static tree', ['--joint', 'conditional', '--tree', 'static'], ['dynamic trees', 'static']],
    [
      'conditional tree file',
      ['--joint', 'conditional', '--tree-file', 'TREE [[0]]'],
      ['dynamic trees', 'static'],
    ],
    ['conditional without a tree', ['--joint', 'conditional', '--tree', 'none'], ['dynamic trees', 'none']],
    ['conditional without heads', ['--joint', 'conditional', '--heads', 'none'], ['--draft', 'heads']],
    ['conditional without the heads in it', ['--joint', 'conditional', '--draft', 'lookup'], ['--draft']],
    ['unknown draft', ['--draft', 'luck'], ['--draft', 'heads, recycle, lookup', '"luck"']],
    ['a source twice', ['--draft', 'heads,heads'], ['--draft', 'each once', '"heads,heads"']],
    [
      'no heads to draft with',
      ['--heads', 'none', '--draft', 'heads,lookup'],
      ['--heads FILE', '--draft recycle'],
    ],
    ['lookup in a static tree', ['--draft', 'lookup', '--tree', 'static'], ['dynamic trees', 'static']],
    ['no folder for a memory', ['--memory', '/nowhere/at/all'], ['--memory', '/nowhere/at', 'Make it']],
    ['more heads than there are', ['--heads-used', '5'], ['--heads-used', '4 heads']],
    ['more candidates than there are', ['--top-m', '1000'], ['--top-m', 'at most']],
    ['unknown heads', ['--heads', 'medusa9'], ['medusa9', 'tiny']],
    ['heads none with a static tree', ['--heads', 'none', '--tree', 'static'], ['heads', '--heads FILE']],
    ['unknown precision', ['--precision', 'int3'], ['int3', 'int8', 'fp32']],
    ['empty stop', ['--stop', ''], ['--stop']],
    ['system with raw', ['--raw', '--system', 'x'], ['--system', '--raw']],
    ['thinking with raw', ['--raw', '--thinking', 'off'], ['--thinking', '--raw']],
    ['chat template with raw', ['--raw', '--chat-template', 'chatml'], ['--chat-template', '--raw']],
    ['prompt and file', ['--file', 'x.txt'], ['--file', 'not both']],
    ['tree file with another tree', ['--tree', 'dynamic', '--tree-file', 'TREE [[0]]'], ['tree file']],
    ['missing tree file', ['--tree-file', '/nowhere/t.json'], ['/nowhere/t.json', 'no such file']],
    ['tree that is not JSON', ['--tree-file', 'TREE [[0'], ['not JSON']],
    ['tree without paths', ['--tree-file', 'TREE []'], ['no paths']],
    ['tree of words', ['--tree-file', 'TREE "oak"'], ['array of paths']],
    ['tree with an orphan', ['--tree-file', 'TREE [[0],[1,0]]'], ['[1,0]', 'no parent']],
    ['tree with a duplicate', ['--tree-file', 'TREE [[0],[0]]'], ['[0]', 'twice']],
    ['tree with a rank beyond m', ['--tree-file', 'TREE [[40]]'], ['rank 40', 'top-m']],
    [
      'nodes beside a tree file',
      ['--tree-file', 'TREE [[0],[1]]', '--nodes', '64'],
      ['--nodes', '64', '3 nodes', 'tree file'],
    ],
    ['tree file in another encoding', ['--tree-file', 'TREE16 [[0]]'], ['tree.json', 'UTF-8']],
    ['value for a flag', ['--quiet=no'], ['quiet']],
    ['tree with a negative rank', ['--tree-file', 'TREE [[-1]]'], ['-1']],
    ['tree with a fraction', ['--tree-file', 'TREE [[0.5]]'], ['0.5']],
    [
      'tree deeper than the heads',
      ['--tree-file', 'TREE [[0],[0,0],[0,0,0],[0,0,0,0],[0,0,0,0,0]]'],
      ['4 heads'],
    ],
  ];

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    folder = await temporaryFolder();
  });
  after(() => folder.remove());

  for (const [name, args, words] of cases) {
    it(name, async () => {
      const given = await Promise.all(args.map((arg) => treeFile(arg)));
      await expectUsageError([...tiny, ...given], ...words);
    });
  }

  /** "TREE <json>" becomes the name of a file with that content; "TREE16" of one in UTF-16. */
  async function treeFile(arg: string): Promise<string> {
    const [, wide, json] = /^TREE(16)? (.*)$/.exec(arg) ?? [];
    if (json === undefined) return arg;
    const file = join(folder.path, 'tree.json');
    await writeFile(file, wide ? Buffer.from(`\ufeff${json}`, 'utf16le') : json);
    return file;
  }

  it('of bench and compare: the chat template with raw', async () => {
    for (const command of ['bench', 'compare'])
      await expectUsageError(
        [command, '--model', tinyFolder, '--raw', '--chat-template', 'chatml'],
        '--chat-template is about the chat template, which --raw leaves out',
      );
  });

  it('no command, an unknown one, a misspelt one', async () => {
    await expectUsageError([], 'Give a command');
    await expectUsageError(['generat', 'Hi'], 'generate');
    await expectUsageError(['frobnicate'], 'frobnicate');
  });

  it('empty prompts', async () => {
    await expectUsageError(['generate', '', '--model', tinyFolder], 'prompt');
    await expectUsageError(['generate', '  \n', '--model', tinyFolder], 'The prompt is empty');
  });

  it('prompt files that are missing, empty or no text', async () => {
    const file = join(folder.path, 'prompt.txt');
    const args = ['generate', '--model', tinyFolder, '--file', file];
    await expectUsageError(args, 'there is no such file');
    await writeFile(file, '');
    await expectUsageError(args, 'The prompt is empty');
    await writeFile(file, Buffer.from([0x80, 0xff]));
    await expectUsageError(args, 'not UTF-8');
  });

  it('files that are pipes or folders, which are not read', async function () {
    if (process.platform === 'win32') return;
    const pipe = join(folder.path, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const option of ['--chat-template', '--tree-file'])
      await expectUsageError([...tiny, option, pipe], pipe, 'it is a pipe');
    await expectUsageError(['bench', '--model', tinyFolder, '--questions', pipe], pipe, 'it is a pipe');
    await expectUsageError([...tiny, '--tree-file', folder.path], folder.path, 'it is a folder');
    await expectUsageError(['generate', '--file', folder.path], folder.path, 'not a regular file or a pipe');
  });

  it('a prompt that does not fit says what does', async () => {
    const run = await runMain([
      ...tiny.slice(0, 1),
      'word '.repeat(600),
      ...tiny.slice(2),
      '--max-new-tokens',
      '100',
    ]);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.match(/The prompt has \d+ tokens and up to 100 new ones/);
    expect(run.stderr).to.contain('holds 512').and.to.contain('at most 511').and.to.contain('412');
  });
});
