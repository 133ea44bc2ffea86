import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { builtinTemplates } from '../../src/engine/text/builtinTemplates.js';
import { runCli, runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder, tinyFolder, writeManifest } from '../support/tinyModel.js';

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
    expect((await prepare('--list')).stdout).to.contain(
      `No prepared model in ${temporary.path}: no model is there yet.`,
    );
    await copyTiny(temporary.path, 'one');
    await copyTiny(temporary.path, 'two');
    await mkdir(join(temporary.path, 'broken'));
    await writeFile(join(temporary.path, 'broken', 'manifest.json'), '{');
    const list = (await prepare('--list')).stdout;
    expect(list).to.match(/^name +family +size +precisions +heads +on disk +chat template +made from$/m);
    expect(list).to.match(/^one +llama .*tiny \(4\)/m);
    expect(list)
      .to.match(/^broken +damaged /m)
      .and.to.match(/^broken: .*not JSON/m);
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
      [['--remove', '../two'], /no prepared model \.\.\/two .*there are: two/],
      [['--remove', 'TWO'], /no prepared model TWO/],
      [['--remove', 'two', '--json'], /--json goes with --list/],
      [['--json'], /--json goes with --list/],
      [['--list', '--force'], /--list does not go with --force/],
      [['--remove', 'two', '--list'], /--remove does not go with --list/],
    ] as const) {
      const wrong = await prepare(...args);
      expect(wrong.code, args.join(' ')).to.equal(2);
      expect(wrong.stderr).to.match(words);
    }
    expect(existsSync(join(temporary.path, 'two'))).to.equal(true);
  });

  it('are shown by doctor as they are listed', async () => {
    const at = ['--models-dir', join(temporary.path, 'shown')];
    await copyTiny(at[1], 'one');
    const list = await runMain(['prepare', '--list', ...at]);
    const table = list.stdout.trimEnd();
    expect((await runMain(['doctor', ...at])).stdout).to.match(/\n\nname +family/);
    // The first opening has left tuning.json and verified.json.
    const [again, doctor] = [await runMain(['prepare', '--list', ...at]), await runMain(['doctor', ...at])];
    expect(again.stdout.split('\n')[0]).to.equal(table.split('\n')[0]);
    expect(doctor.stdout).to.contain(`\n\n${again.stdout}`);
    // On a busy machine doctor measures again, and tuning.json gets longer or shorter by some digits.
    const withoutBytes = (text: string): { models: object[] } =>
      JSON.parse(text, (key, value: unknown) => (key === 'bytes' ? undefined : value)) as {
        models: object[];
      };
    const ofList = withoutBytes((await runMain(['prepare', '--list', '--json', ...at])).stdout);
    const ofDoctor = withoutBytes((await runMain(['doctor', '--json', ...at])).stdout);
    expect(ofDoctor.models).to.deep.equal(ofList.models);
    expect(ofList).to.have.nested.property('models[0].chat_template', 'own');
    const config = { chat_template: builtinTemplates.chatml };
    await writeFile(join(at[1], 'one', 'tokenizer_config.json'), JSON.stringify(config));
    const kept = JSON.parse((await runMain(['prepare', '--list', '--json', ...at])).stdout) as object;
    expect(kept).to.have.nested.property('models[0].chat_template', 'chatml');
  });

  it('are not looked for by making folders', async () => {
    const parent = join(temporary.path, 'typing');
    await mkdir(parent);
    await writeFile(join(parent, 'file'), '');
    for (const [name, words] of [
      ['mistyped', 'the folder does not exist'],
      ['file', 'it is not a folder'],
    ]) {
      const at = ['--models-dir', join(parent, name)];
      for (const [args, code] of [
        [['prepare', '--list'], 0],
        [['prepare', '--remove', 'one'], 2],
        [['generate', 'Hi', '--model', 'one'], 2],
        [['doctor'], 0],
      ] as const) {
        const run = await runMain([...args, ...at]);
        expect(run.code, args.join(' ')).to.equal(code);
        expect(run.stdout + run.stderr, args.join(' ')).to.contain(`${at[1]}: ${words}`);
      }
    }
    expect(await readdir(parent)).to.deep.equal(['file']);
  });

  it('are not made of ONNX exports', async () => {
    const made = async (name: string, ...files: string[]): Promise<string> => {
      const folder = join(temporary.path, name);
      await mkdir(folder);
      for (const file of files) await writeFile(join(folder, file), '{}');
      return folder;
    };
    const optimum = await made(
      'optimum',
      'config.json',
      'model.onnx',
      'model.onnx_data',
      'training_args.bin',
    );
    const genai = await made('genai', 'genai_config.json', 'tokenizer.json');
    for (const from of [optimum, join(optimum, 'model.onnx'), genai]) {
      const used = await runMain(['generate', 'Hi', '--model', from, '--models-dir', temporary.path]);
      expect(used.code).to.equal(2);
      expect(used.stderr).to.match(
        /--model .* is an ONNX export.*a \.gguf file, to medusa-plus prepare --from\./,
      );
      const wrong = await prepare('--from', from);
      expect(wrong.code).to.equal(2);
      expect(wrong.stderr).to.match(
        /is an ONNX export.*tree mask.*hidden states.*Give the checkpoint that it was made from/,
      );
    }
    const prepared = await copyTiny(temporary.path, 'prepared');
    for (const from of [prepared, join(prepared, 'backbone.int8.onnx')]) {
      const wrong = await prepare('--from', from);
      expect(wrong.code).to.equal(2);
      expect(wrong.stderr).to.contain(`is a prepared model: use it with --model ${prepared}.`);
    }
  });

  it('are not heads alone', async () => {
    const made = async (name: string, ...files: [string, string][]): Promise<string> => {
      const folder = join(temporary.path, name);
      await mkdir(folder);
      for (const [file, text] of files) await writeFile(join(folder, file), text);
      return folder;
    };
    const tgi = await made(
      'tgi',
      ['config.json', '{"medusa_num_heads": 3, "base_model_name_or_path": "o/base"}'],
      ['medusa_lm_head.safetensors', ''],
    );
    const bare = await made('bare', ['medusa_lm_head.pt', '']);
    for (const [folder, from] of [
      [tgi, 'o/base'],
      [bare, '<base model>'],
    ]) {
      const used = await runMain(['generate', 'Hi', '--model', folder, '--models-dir', temporary.path]);
      expect(used.code).to.equal(2);
      expect(used.stderr).to.contain(
        `--model ${folder} holds Medusa heads and no model. Prepare the base model with them: ` +
          `medusa-plus prepare --from ${from} --heads ${folder}.`,
      );
      const wrong = await prepare('--from', folder);
      expect(wrong.code).to.equal(2);
      expect(wrong.stderr).to.contain(`with --from: medusa-plus prepare --from ${from} --heads ${folder}.`);
    }
  });

  it('are seen as what they are in the working directory too, and missing ones end alike', async () => {
    const cwd = join(temporary.path, 'here');
    await mkdir(cwd);
    await writeFile(join(cwd, 'real.onnx'), '');
    await writeFile(join(cwd, 'real.gguf'), '');
    const at = ['--models-dir', join(cwd, 'none')];
    for (const [args, words] of [
      [['real.onnx'], '--model real.onnx is an ONNX export.'],
      [['./real.onnx'], '--model ./real.onnx is an ONNX export.'],
      [['real.gguf'], '--model real.gguf is a checkpoint'],
      [['no/such'], 'no/such: there is no such folder'],
      [['./no/such'], 'no/such does not exist'],
      [['nosuch'], 'No model nosuch in'],
      [['nosuch', '--prepare'], '--prepare fetches models of the Hugging Face hub alone: OWNER/NAME.'],
    ] as const) {
      const run = await runCli(['generate', 'Hi', ...at, '--model', ...args], { cwd });
      expect(run.code, args.join(' ') + run.stderr).to.equal(2);
      expect(run.stderr).to.contain(words);
    }
  });

  it('are not checkpoints, which the error says how to prepare', async () => {
    const fetched = join(temporary.path, 'A Fetched-Model');
    await mkdir(fetched);
    await writeFile(join(fetched, 'config.json'), '{}');
    const checkpoint = await runMain([
      ...['generate', 'Hi', '--model', fetched, '--models-dir', temporary.path],
    ]);
    expect(checkpoint.code).to.equal(2);
    expect(checkpoint.stderr).to.contain(
      `is a checkpoint, not a prepared model. Prepare it: medusa-plus prepare --from '${fetched}'`,
    );
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

  it('run, copied, on a machine without Python, which is named only where it is needed', async () => {
    const nothing = join(temporary.path, 'nothing');
    await mkdir(nothing);
    const env = { PATH: nothing, MEDUSA_PLUS_PYTHON: undefined };
    const answer = ['--threads', '1', '--max-new-tokens', '24'];
    const here = await runCli(['generate', 'Hi', '--model', tinyFolder, ...answer]);
    const copied = await copyTiny(temporary.path, 'copied');
    const there = await runCli(['generate', 'Hi', '--model', copied, ...answer], { env });
    expect(there.code, there.stderr).to.equal(0);
    expect(here.stdout.trim()).to.not.equal('');
    expect(there.stdout).to.equal(here.stdout);

    const source = join(temporary.path, 'source.gguf');
    await writeFile(source, 'GGUF');
    const at = ['--models-dir', temporary.path];
    for (const args of [
      ['prepare', '--from', source],
      ['generate', 'Hi'],
    ]) {
      const needed = await runCli([...args, ...at], { env });
      expect(needed.code, args.join(' ')).to.equal(1);
      expect(needed.stderr).to.match(
        /Preparing a model needs Python 3\.10 or newer.* was not found.*on another machine and copy its folder/,
      );
      expect(needed.stderr).to.not.match(/^\s+at /m);
    }
  });
});
