import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultModelName, defaultWeightsSha256 } from '../../src/models/defaultModel.js';
import { modelsFolder } from '../../src/models/modelsFolder.js';
import { prepareAgain, prepareCommand } from '../../src/models/prepareCommand.js';
import { runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder } from '../support/tinyModel.js';

describe('The command in hints', function () {
  this.timeout(60_000);
  const usual = modelsFolder(undefined);
  let place: Awaited<ReturnType<typeof temporaryFolder>>;
  let tiny: string;
  before(async () => {
    place = await temporaryFolder();
    tiny = await copyTiny(place.path, 'my-model');
  });
  after(() => place.remove());

  /** The tiny model with another origin. */
  async function withSource(source: object): Promise<void> {
    const file = join(tiny, 'manifest.json');
    await writeFile(file, JSON.stringify({ ...(await readJson(file)), source }));
  }

  it('is short for the default model', () => {
    expect(prepareCommand(join(usual, defaultModelName), '--force')).to.equal('medusa-plus prepare --force');
    expect(prepareCommand(`/a b/${defaultModelName}`)).to.equal("medusa-plus prepare --models-dir '/a b'");
  });

  it("names the user's source, heads and folder", async () => {
    await withSource({ kind: 'folder', name: 'vicuna-7b', sha256: 'x' });
    const rest = `--id my-model --models-dir ${place.path}`;
    expect(prepareCommand(tiny, '--force')).to.equal(
      `medusa-plus prepare --from <vicuna-7b> --heads <tiny> ${rest} --force`,
    );
    expect(prepareCommand(tiny, '--heads', 'FILE')).to.equal(
      `medusa-plus prepare --from <vicuna-7b> ${rest} --heads FILE`,
    );
    await withSource({
      kind: 'gguf',
      name: 'x.gguf',
      sha256: defaultWeightsSha256,
      adapter: { name: 'mine', sha256: 'y' },
    });
    expect(prepareCommand(tiny)).to.equal(`medusa-plus prepare --adapter <mine.adapter.safetensors> ${rest}`);
    await withSource({ kind: 'gguf', name: 'x.gguf', sha256: defaultWeightsSha256 });
    expect(prepareCommand(tiny, '--precision', 'int8')).to.equal(
      `medusa-plus prepare --from <x.gguf> --heads <tiny> ${rest} --precision int8`,
    );
  });

  it('needs no manifest', async () => {
    const gone = join(place.path, 'gone');
    expect(prepareCommand(gone)).to.contain('--from <HF folder or .gguf file> --id gone');
    await writeFile(join(tiny, 'manifest.json'), '{"source": [');
    expect(prepareAgain(tiny)).to.contain('--from <HF folder or .gguf file> --id my-model');
  });

  it('is what the messages of the command line hold', async () => {
    const model = await copyTiny(place.path, 'hinted');
    const name = `--id hinted --models-dir ${place.path}`;
    for (const [args, hint] of [
      [['--precision', 'fp16'], `${name} --precision fp16`],
      [['--joint', 'conditional'], `${name} --heads FILE --force`],
      [['--heads', 'none', '--draft', 'heads'], `${name} --heads FILE --force`],
    ] as const) {
      const run = await runMain(['generate', 'hi', '--model', model, '--threads', '1', ...args]);
      expect(run.code, run.stderr).to.equal(2);
      expect(run.stderr).to.contain('medusa-plus prepare --from <').and.to.contain(hint);
    }
    await writeFile(join(model, 'backbone.int8.onnx.data'), 'cut');
    const run = await runMain(['generate', 'hi', '--model', model, '--threads', '1']);
    expect(run.code, run.stderr).to.equal(1);
    expect(run.stderr).to.contain(`${name} --force`);
  });
});
