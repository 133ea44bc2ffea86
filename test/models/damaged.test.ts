import { expect } from 'chai';
import { copyFile, readFile, rm, truncate, writeFile, appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256Of } from '../../src/util/sha256.js';
import { runMain } from '../support/cli.js';
import {
  addConditional,
  conditionalName,
  copyTiny,
  readJson,
  temporaryFolder,
  writeManifest,
} from '../support/tinyModel.js';

interface ManifestJson {
  format: number;
  exporter: string;
  model: Record<string, unknown>;
  tokenizer: Record<string, unknown>;
  backbones: Record<string, unknown>[];
  heads: (Record<string, unknown> & { inputs: { name: string; shape: unknown[] }[] })[];
  keep: Record<string, unknown>[];
}

/** What is done to a copy of the tiny model, and what the message must then name. */
type Damage = [name: string, damage: (folder: string) => Promise<unknown>, words: string[], args?: string[]];

const at = (file: string, change: (path: string) => Promise<unknown>) => (folder: string) =>
  change(join(folder, file));

const inManifest = (change: (manifest: ManifestJson) => void) => async (folder: string) => {
  const file = join(folder, 'manifest.json');
  const manifest = (await readJson(file)) as unknown as ManifestJson;
  change(manifest);
  await writeManifest(folder, manifest);
};

/** Other bytes, same size: what a size check cannot see. */
const scramble = async (path: string): Promise<void> => {
  const bytes = await readFile(path);
  await writeFile(
    path,
    bytes.map((byte) => byte ^ 0x5a),
  );
};

/** With a conditional table, which is then damaged. */
const withTable = (damage: (folder: string) => Promise<unknown>) => async (folder: string) => {
  await addConditional(folder);
  await damage(folder);
};

const inTable = (change: (table: Record<string, unknown>) => void): Damage[1] =>
  withTable(inManifest((m) => m.heads.forEach(({ conditional }) => change(conditional as never))));

const conditional = ['--joint', 'conditional'];

const cases: Damage[] = [
  ['no manifest', at('manifest.json', (file) => rm(file)), ['manifest.json', 'not a prepared model']],
  [
    'a manifest that is not JSON',
    at('manifest.json', (file) => truncate(file, 100)),
    ['manifest.json', 'not JSON'],
  ],
  [
    'a manifest of another kind',
    at('manifest.json', (file) => writeFile(file, '[]')),
    ['manifest.json', 'object'],
  ],
  ['a newer format', inManifest((m) => (m.format = 2)), ['format 2', 'medusa-plus 0.1.0', 'Update']],
  ['an unknown format', inManifest((m) => (m.format = 'x' as never)), ['format', '"x"']],
  ['a missing field', inManifest((m) => delete m.model.layers), ['model.layers', 'whole number', 'nothing']],
  ['a wrong field', inManifest((m) => (m.model.vocab_size = -1)), ['model.vocab_size', '-1']],
  [
    'a path that leads out',
    inManifest((m) => (m.backbones[0].file = '../x.onnx')),
    ['backbones[0].file', '../x.onnx'],
  ],
  ['heads that do not group', inManifest((m) => (m.model.kv_heads = 3)), ['query heads', '3']],
  ['no backbones', inManifest((m) => (m.backbones = [])), ['no backbone']],
  [
    'heads of another model',
    inManifest((m) =>
      m.heads.forEach((heads) => (heads.inputs.find((i) => i.name === 'hidden')!.shape = ['r', 96])),
    ),
    ['heads tiny', '96', '64', 'another model'],
  ],
  [
    'a static tree that is none',
    inManifest((m) => m.heads.forEach((heads) => (heads.static_tree = [[0], ['x']]))),
    ['heads[0].static_tree[1][0]', 'whole number', '"x"'],
  ],
  [
    'a static tree with a child before its parent',
    inManifest((m) => m.heads.forEach((heads) => (heads.static_tree = [[0], [1, 0], [1]]))),
    ['heads[0].static_tree', '[1,0]', 'place 1', 'before its parent [1]', 'prepare'],
  ],
  [
    'a static tree deeper than the heads',
    inManifest((m) =>
      m.heads.forEach(
        (heads) => (heads.static_tree = [[0], [0, 0], [0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0]]),
      ),
    ),
    ['heads[0].static_tree', '5 deep', '4 heads'],
  ],
  ['a missing graph', at('backbone.int8.onnx', (file) => rm(file)), ['backbone.int8.onnx', 'missing']],
  [
    'missing weights',
    at('backbone.int8.onnx.data', (file) => rm(file)),
    ['backbone.int8.onnx.data', 'missing'],
  ],
  [
    'truncated weights',
    at('backbone.int8.onnx.data', (file) => truncate(file, 1000)),
    ['truncated', 'has 1000'],
  ],
  [
    'longer weights',
    at('backbone.int8.onnx.data', (file) => appendFile(file, 'x')),
    ['another file', 'backbone.int8.onnx.data'],
  ],
  ['missing heads', at('heads.tiny.int8.onnx', (file) => rm(file)), ['heads.tiny.int8.onnx', 'missing']],
  [
    'truncated heads',
    at('heads.tiny.int8.onnx.data', (file) => truncate(file, 7)),
    ['heads.tiny.int8.onnx.data', '7'],
  ],
  [
    'a missing conditional table',
    withTable(at(conditionalName, (file) => rm(file))),
    [conditionalName, 'missing'],
  ],
  [
    'a truncated conditional table',
    withTable(at(conditionalName, (file) => truncate(file, 99))),
    [conditionalName, 'truncated', 'has 99'],
  ],
  [
    'a scrambled conditional table',
    withTable(at(conditionalName, scramble)),
    [conditionalName, 'was changed'],
  ],
  ['a table of another model', inTable((table) => (table.vocab_size = 600)), ['600', '512', 'another model']],
  [
    'a table of other sizes',
    inTable((table) => (table.rank = 9)),
    [conditionalName, 'bytes', '47104 bytes', '41984'],
  ],
  [
    'a table with levels for other heads',
    inTable((table) => (table.levels = 3)),
    [conditionalName, 'levels for 3 heads', 'there are 4'],
  ],
  [
    'a table of an unknown kind',
    inTable((table) => (table.activation = 'relu')),
    ['activation', 'none, silu', 'relu'],
  ],
  [
    'a table for contexts that the graph does not give',
    inTable((table) => (table.context = true)),
    ['heads.tiny.int8.onnx', 'output context'],
    conditional,
  ],
  ['a scrambled graph', at('backbone.int8.onnx', scramble), ['backbone.int8.onnx', 'was changed']],
  ['scrambled heads', at('heads.tiny.int8.onnx', scramble), ['heads.tiny.int8.onnx', 'was changed']],
  [
    'a graph of another kind',
    async (folder) => {
      const keep = join(folder, 'keep.fp32.onnx');
      await copyFile(keep, join(folder, 'backbone.int8.onnx'));
      const stored = { bytes: (await readFile(keep)).length, sha256: await sha256Of(keep) };
      await inManifest((m) => Object.assign((m.backbones[0].files as object[])[0], stored))(folder);
    },
    ['backbone.int8.onnx', 'input_ids'],
  ],
  ['a missing tokenizer', at('tokenizer.json', (file) => rm(file)), ['tokenizer.json', 'missing']],
  [
    'another tokenizer',
    at('tokenizer.json', (file) => appendFile(file, ' ')),
    ['tokenizer.json', 'was changed', 'sha256'],
  ],
  [
    'no tokenizer config',
    at('tokenizer_config.json', (file) => rm(file)),
    ['tokenizer_config.json', 'missing'],
  ],
  [
    'a broken tokenizer config',
    at('tokenizer_config.json', (file) => truncate(file, 9)),
    ['tokenizer_config.json'],
  ],
  [
    'no chat template',
    async (folder: string) => {
      await writeFile(join(folder, 'tokenizer_config.json'), '{}');
      await inManifest((m) => delete m.tokenizer.config_sha256)(folder);
    },
    ['no chat template', '--raw'],
  ],
  ['a vocabulary too small', inManifest((m) => (m.model.vocab_size = 100)), ['512 tokens', '100']],
];

const generate = (folder: string, ...args: string[]): ReturnType<typeof runMain> =>
  runMain(['generate', 'Hi', '--model', folder, '--threads', '1', '--max-new-tokens', '2', ...args]);

describe('Damaged model files', function () {
  this.timeout(60_000);

  for (const [name, damage, words, args = []] of cases) {
    it(name, async () => {
      const temporary = await temporaryFolder();
      try {
        const folder = await copyTiny(temporary.path);
        await damage(folder);
        const run = await generate(folder, ...args);
        expect(run.code, run.stderr).to.be.oneOf([1, 2]);
        expect(run.stdout).to.equal('');
        const message = run.stderr.split('\n').find((line) => line.startsWith('medusa-plus: '))!;
        for (const word of words) expect(message).to.contain(word);
        expect(run.stderr)
          .to.not.match(/^\s+at /m)
          .and.to.not.contain('MEDUSA_PLUS_DEBUG');
      } finally {
        await temporary.remove();
      }
    });
  }

  it('a model folder that is not there', async () => {
    const run = await runMain(['generate', 'Hi', '--model', './nowhere/model']);
    expect(run.code).to.equal(2);
    expect(run.stderr).to.contain('nowhere/model does not exist').and.to.contain('medusa-plus prepare');
  });

  it('a damaged measurement is made again', async () => {
    const temporary = await temporaryFolder();
    try {
      const folder = await copyTiny(temporary.path);
      for (const text of [
        '{',
        '{"format":2,"measured":[]}',
        '{"format":2,"measured":{"x":{"curves":{"1":[]}}}}',
      ]) {
        await writeFile(join(folder, 'tuning.json'), text);
        const run = await generate(folder);
        expect(run.code, run.stderr).to.equal(0);
      }
      expect(await readJson(join(folder, 'tuning.json'))).to.have.property('measured');
    } finally {
      await temporary.remove();
    }
  });
});
