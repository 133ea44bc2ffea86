import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

describe('prepared models', function () {
  this.timeout(60_000);
  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    temporary = await temporaryFolder();
  });
  after(() => temporary.remove());

  const prepare = (...args: string[]): ReturnType<typeof runMain> =>
    runMain(['prepare', ...args, '--models-dir', temporary.path]);

  it('are listed, damaged ones too, and removed by name', async () => {
    expect((await prepare('--list')).stdout).to.contain('No model is prepared in');
    await copyTiny(temporary.path, 'one');
    await copyTiny(temporary.path, 'two');
    await mkdir(join(temporary.path, 'broken'));
    await writeFile(join(temporary.path, 'broken', 'manifest.json'), '{');
    const list = (await prepare('--list')).stdout;
    expect(list).to.match(/^name +family +size +precisions +heads +on disk +chat template +made from$/m);
    expect(list).to.match(/^one +llama .*tiny \(4\)/m);
    expect(list).to.match(/^broken +damaged .*not JSON/m);
    const { models } = JSON.parse((await prepare('--list', '--json')).stdout) as {
      models: { name: string; bytes: number }[];
    };
    expect(models.map(({ name }) => name)).to.deep.equal(['broken', 'one', 'two']);
    expect(models[1].bytes).to.be.above(100_000);

    expect((await prepare('--remove', 'one')).stdout).to.contain('Removed');
    expect([existsSync(join(temporary.path, 'one')), existsSync(join(temporary.path, 'two'))]).to.deep.equal([
      false,
      true,
    ]);
    await prepare('--remove', 'broken');
    for (const [args, words] of [
      [['--remove', 'one'], /no prepared model one .*there are: two/],
      [['--remove', '../two'], /--id must be a name/],
      [['--list', '--force'], /--list does not go with --force/],
      [['--remove', 'two', '--list'], /--remove does not go with --list/],
    ] as const) {
      const wrong = await prepare(...args);
      expect(wrong.code, args.join(' ')).to.equal(2);
      expect(wrong.stderr).to.match(words);
    }
    expect(existsSync(join(temporary.path, 'two'))).to.equal(true);
  });

  it('are not made of ONNX exports nor of what is not there, which errors say', async () => {
    const folder = join(temporary.path, 'export');
    await mkdir(folder);
    await writeFile(join(folder, 'config.json'), '{}');
    await writeFile(join(folder, 'model.onnx'), 'x');
    for (const [args, words] of [
      [['--from', folder], /is an ONNX export.*tree mask.*hidden states.*Give the checkpoint/],
      [['--from', join(folder, 'model.onnx')], /is an ONNX export/],
      [['--from', './owner/a-model'], /no such file or folder.*OWNER\/NAME@REVISION/],
    ] as const) {
      const wrong = await prepare(...args);
      expect(wrong.code).to.equal(2);
      expect(wrong.stderr).to.match(words);
    }
  });

  it('are found by the names of their sources on the hub', async () => {
    const made = async (name: string, source: object): Promise<void> => {
      const folder = await copyTiny(temporary.path, name);
      const manifest = (await readJson(join(folder, 'manifest.json'))) as { source: object };
      await writeManifest(folder, { ...manifest, source: { ...manifest.source, ...source } });
    };
    await made('a-model', { name: 'Owner/A-Model', revision: 'c0ffee' });
    await made('adapted', { name: 'Owner/Other', adapter: { name: 'x', sha256: 'y' } });
    await made('first', { name: 'Owner/Twice' });
    await made('second', { name: 'Owner/Twice' });
    const use = (model: string): ReturnType<typeof runMain> =>
      runMain(
        ['generate', 'Hi', '--threads', '1', '--max-new-tokens', '2', '--quiet', '--json'].concat([
          '--nodes',
          '4',
          '--model',
          model,
          '--models-dir',
          temporary.path,
        ]),
      );
    for (const name of ['Owner/A-Model', 'owner/a-model', 'Owner/A-Model@c0ff', 'A-Model', 'a-model']) {
      const run = await use(name);
      expect(run.code, name + run.stderr).to.equal(0);
    }
    for (const [name, words] of [
      [
        'Owner/A-Model@main',
        /medusa-plus prepare --from Owner\/A-Model@main --models-dir .*or add --prepare/,
      ],
      ['Owner/Other', /no model in .* was made from a repository of that name/],
      ['Owner/Twice', /Several models were made from Owner\/Twice.*first, second/],
    ] as const) {
      const run = await use(name);
      expect(run.code, name).to.equal(2);
      expect(run.stderr).to.match(words);
    }
  });

  it('run on a machine without Python, which is named only where it is needed', async () => {
    const model = await copyTiny(temporary.path, 'copied');
    const path = process.env.PATH;
    process.env.PATH = join(temporary.path, 'nothing');
    try {
      const run = await runMain([
        'generate',
        'Hi',
        '--model',
        model,
        '--threads',
        '1',
        '--max-new-tokens',
        '4',
        '--json',
      ]);
      expect(run.code, run.stderr).to.equal(0);
      expect((JSON.parse(run.stdout) as { token_ids: number[] }).token_ids).to.have.length(4);
      const source = join(temporary.path, 'source.gguf');
      await writeFile(source, 'GGUF');
      const made = await prepare('--from', source);
      expect(made.code).to.equal(1);
      expect(made.stderr).to.match(/[Pp]ython/);
    } finally {
      process.env.PATH = path;
    }
  });
});
