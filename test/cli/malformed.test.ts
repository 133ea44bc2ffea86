import { expect } from 'chai';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder, tinyFolder, writeManifest } from '../support/tinyModel.js';

/** What a case gives the program: DIR stands for the temporary folder with the files below, TINY for the model. */
type Case = [args: string, code: 1 | 2, words: string];

/** Malformed files by name; a folder's own are made in `before`. */
const files: Record<string, string | Buffer> = {
  empty: '',
  'nul.txt': Buffer.alloc(64),
  'latin1.txt': Buffer.from([0x68, 0xe9, 0x0a]),
  'half.json': '[[0], [1',
  'number.json': '7',
  'null.json': 'null',
  'deep.json': '['.repeat(20_000),
  'words.json': '[["a"]]',
  'orphan.json': '[[0, 0]]',
  'big.json': '[[1e308]]',
  'two.json': '{"a": [[0]], "b": [[0]]}',
  'half.jsonl': '{"question_id": 1, "category": "x", "turns": ["Hello"]}\n{"question_id": 2, ',
  'array.jsonl': '[1, 2]\n',
  'null.jsonl': 'null\n',
  'noturns.jsonl': '{"question_id": 1, "category": "x"}\n',
  'badturns.jsonl': '{"question_id": 1, "category": "x", "turns": [1]}\n',
  'emptyturns.jsonl': '{"question_id": 1, "category": "x", "turns": []}\n',
  'twice.jsonl': '{"question_id": 1, "category": "x", "turns": ["a"]}\n'.repeat(2),
  'short.gguf': 'GGUF',
  'nothing.safetensors': '',
  'weights.bin': Buffer.alloc(100),
};

const cases: Case[] = [
  // The command line itself.
  ['', 2, 'Give a command'],
  ['generat hi', 2, 'generate'],
  ['generate hi --nope', 2, 'nope'],
  ['bench judge', 2, 'need at least 1'],
  ['bench merge --output DIR/merged', 2, 'need at least 1'],
  ['generate a b --model TINY', 2, 'b'],
  ['generate hi --model TINY --__proto__ x', 2, 'proto'],
  ['generate hi --model TINY --nodes -1', 2, '--nodes'],
  ['generate hi --model TINY --nodes 1e999', 2, '--nodes'],
  ['generate hi --model TINY --seed 99999999999999999999', 2, '--seed'],
  ['generate hi --model TINY --temperature 0,7', 2, '0,7'],
  ['generate hi --model TINY --threads 0', 2, '--threads'],
  ['generate hi --model TINY --provider gpu', 2, 'gpu'],
  ['generate hi --model TINY --precision ../int8', 2, '../int8'],
  ['generate hi --model TINY --heads constructor', 2, 'constructor'],
  // Prompts.
  ['generate --model TINY --file DIR/nowhere', 2, 'nowhere'],
  ['generate --model TINY --file DIR', 2, 'DIR'],
  ['generate --model TINY --file DIR/empty', 2, 'empty'],
  ['generate --model TINY --file DIR/latin1.txt', 2, 'latin1.txt'],
  // Models.
  ['generate hi --model DIR/nowhere', 2, 'DIR/nowhere'],
  ['generate hi --model DIR', 2, 'manifest.json'],
  ['generate hi --model /etc', 2, '/etc'],
  ['generate hi --model nobody --models-dir DIR', 2, 'nobody'],
  ['generate hi --model nobody --models-dir DIR/empty', 2, 'nobody'],
  ['generate hi --model DIR/models/empty', 1, 'manifest.json'],
  ['generate hi --model DIR/models/half', 1, 'manifest.json'],
  ['generate hi --model DIR/models/null', 1, 'manifest.json'],
  ['generate hi --model DIR/models/list', 1, 'manifest.json'],
  ['generate hi --model DIR/models/future', 1, 'format 99'],
  ['generate hi --model DIR/models/escape', 1, '../../secret'],
  ['generate hi --model DIR/models/huge', 1, 'layers'],
  ['generate hi --model DIR/models/cut', 1, 'backbone.int8.onnx.data'],
  ['generate hi --model DIR/models/loop', 2, 'loop'],
  // Trees.
  ['generate hi --model TINY --tree-file DIR', 2, 'DIR'],
  ['generate hi --model TINY --tree-file DIR/empty', 2, 'empty'],
  ['generate hi --model TINY --tree-file DIR/half.json', 2, 'half.json'],
  ['generate hi --model TINY --tree-file DIR/number.json', 2, 'number.json'],
  ['generate hi --model TINY --tree-file DIR/null.json', 2, 'null.json'],
  ['generate hi --model TINY --tree-file DIR/deep.json', 2, 'deep.json'],
  ['generate hi --model TINY --tree-file DIR/words.json', 2, '"a"'],
  ['generate hi --model TINY --tree-file DIR/orphan.json', 2, '[0,0]'],
  ['generate hi --model TINY --tree-file DIR/big.json', 2, '1e+308'],
  ['generate hi --model TINY --tree-file DIR/two.json', 2, 'a, b'],
  ['generate hi --model TINY --tree-file DIR/two.json#c', 2, '"c"'],
  // Questions.
  ['bench --model TINY --questions DIR/nowhere', 2, 'nowhere'],
  ['bench --model TINY --questions DIR', 2, 'DIR'],
  ['bench --model TINY --questions DIR/empty', 2, 'empty'],
  ['bench --model TINY --questions DIR/nul.txt', 2, 'nul.txt'],
  ['bench --model TINY --questions DIR/half.jsonl', 2, 'half.jsonl'],
  ['bench --model TINY --questions DIR/array.jsonl', 2, 'array.jsonl'],
  ['bench --model TINY --questions DIR/null.jsonl', 2, 'null.jsonl'],
  ['bench --model TINY --questions DIR/noturns.jsonl', 2, 'turns'],
  ['bench --model TINY --questions DIR/badturns.jsonl', 2, 'turns'],
  ['bench --model TINY --questions DIR/emptyturns.jsonl', 2, 'turns'],
  ['bench --model TINY --questions DIR/twice.jsonl', 2, 'twice.jsonl'],
  ['bench --model TINY --categories nothing', 2, 'nothing'],
  ['bench --model TINY --shard 3/2', 2, '3/2'],
  ['bench --model TINY --shard one', 2, 'one'],
  ['bench --model TINY --repeat 0', 2, '--repeat'],
  ['bench --model TINY --limit 1.5', 2, '--limit'],
  ['bench --model TINY --temperature warm', 2, 'warm'],
  ['bench --model TINY --limit 1 --output DIR/empty', 2, 'DIR/empty is a file'],
  // Run folders.
  ['bench merge DIR/runs/half --output DIR/merged', 2, 'two folders'],
  ['bench merge DIR/nowhere DIR/runs/half --output DIR/merged', 2, 'nowhere'],
  ['bench merge DIR/runs/half DIR/runs/half --output DIR/merged', 1, 'run.json'],
  ['bench merge DIR/empty DIR/runs/half --output DIR/merged', 2, 'DIR/empty is a file'],
  [
    'bench merge DIR/runs/null DIR/runs/half --output DIR/merged',
    1,
    'its content must be an object, found null',
  ],
  ['bench judge DIR/empty --judge x --base-url http://127.0.0.1:9/v1', 2, 'DIR/empty is a file'],
  [
    'bench judge DIR/runs/null --judge x --base-url http://127.0.0.1:9/v1',
    1,
    'must be an object, found null',
  ],
  ['bench judge DIR/nowhere --judge x --base-url http://127.0.0.1:9/v1', 2, 'nowhere'],
  ['bench judge DIR/runs/half --judge x --base-url http://127.0.0.1:9/v1', 1, 'run.json'],
  ['compare DIR/nowhere DIR/empty', 2, 'nowhere'],
  ['compare DIR/empty DIR/runs/half', 2, 'DIR/empty is a file'],
  [
    'compare DIR/runs/null DIR/runs/list',
    1,
    'DIR/runs/null/run.json: its content must be an object, found null',
  ],
  ['compare DIR/runs/half DIR/runs/list', 1, 'run.json'],
  ['compare --model TINY --sweep nodes', 2, 'nodes'],
  ['compare --model TINY --sweep size=1,2', 2, 'size'],
  ['compare --model TINY --a "--tree', 2, 'tree'],
  // Checkpoints, as far as they are refused before Python starts.
  ['prepare --from DIR/nowhere --models-dir DIR/made', 2, 'nowhere'],
  ['prepare --from DIR/weights.bin --models-dir DIR/made', 2, 'weights.bin'],
  ['prepare --id ../x --models-dir DIR/made', 2, '../x'],
  ['prepare --id other --models-dir DIR/made', 2, 'other'],
  ['prepare --adapter DIR/weights.bin --models-dir DIR/made', 2, 'weights.bin'],
  ['prepare --adapter DIR/x.adapter.safetensors --models-dir DIR/made', 2, 'x.adapter.safetensors'],
  ['prepare --from DIR/short.gguf --models-dir DIR/empty', 1, 'DIR/empty'],
  ['doctor --models-dir', 2, 'models-dir'],
  ['doctor extra', 2, 'extra'],
];

describe('Malformed inputs', function () {
  this.timeout(60_000);
  let place: Awaited<ReturnType<typeof temporaryFolder>>;

  before(async () => {
    place = await temporaryFolder();
    const at = (...parts: string[]): string => join(place.path, ...parts);
    for (const [name, content] of Object.entries(files)) await writeFile(at(name), content);
    await mkdir(at('models'));
    const manifests: Record<string, string> = { empty: '', half: '{"format": 1,', null: 'null', list: '[]' };
    for (const [name, text] of Object.entries(manifests)) {
      await mkdir(at('models', name));
      await writeFile(at('models', name, 'manifest.json'), text);
    }
    const changed = async (name: string, change: (manifest: Manifest) => void): Promise<void> => {
      const folder = await copyTiny(at('models'), name);
      const manifest = (await readJson(join(folder, 'manifest.json'))) as unknown as Manifest;
      change(manifest);
      await writeManifest(folder, manifest);
    };
    await changed('future', (manifest) => (manifest.format = 99));
    await changed('escape', (manifest) => (manifest.tokenizer.file = '../../secret'));
    await changed('huge', (manifest) => (manifest.model.layers = -3));
    await writeFile(join(await copyTiny(at('models'), 'cut'), 'backbone.int8.onnx.data'), 'cut');
    await symlink('loop', at('models', 'loop'));
    for (const [name, text] of [
      ['list', '[]'],
      ['half', '{"format": 1'],
      ['null', 'null'],
    ]) {
      await mkdir(at('runs', name), { recursive: true });
      await writeFile(at('runs', name, 'run.json'), text);
    }
  });
  after(() => place.remove());

  const fill = (text: string): string => text.replaceAll('DIR', place.path).replaceAll('TINY', tinyFolder);

  it('are at least 60', () => {
    expect(cases.length).to.be.at.least(60);
  });

  for (const [line, code, words] of cases) {
    it(line === '' ? 'nothing' : line, async () => {
      const run = await runMain(line === '' ? [] : fill(line).split(' '));
      expect(run.code, run.stderr + run.stdout).to.equal(code);
      expect(run.stdout).to.equal('');
      expect(run.stderr).to.contain(fill(words));
      expect(run.stderr, 'a stack trace').to.not.match(/^\s+at /m);
      // This line follows what is no error of ours.
      expect(run.stderr).to.not.contain('MEDUSA_PLUS_DEBUG');
      expect(run.stderr.length).to.be.below(2000);
    });
  }
});

interface Manifest {
  format: number;
  tokenizer: { file: string };
  model: { layers: number };
}
