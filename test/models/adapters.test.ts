import { expect } from 'chai';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { adaptedName, committedAdapter, missingModel, preparesItself } from '../../src/models/adapters.js';
import { defaultModelName, locateModel } from '../../src/models/locate.js';
import { headsFor } from '../../src/prepare/prepare.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('Models with an adapter', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  const addFile = async (name: string, file: string): Promise<string> => {
    const path = join(folder.path, 'heads', name);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, file), file);
    return join(path, file);
  };

  it('prepare themselves when their adapter comes along, like the default model', async () => {
    const name = adaptedName(defaultModelName, '/x/medusa2.adapter.safetensors');
    expect(name).to.equal(`${defaultModelName}-medusa2`);
    expect(preparesItself(defaultModelName, folder.path)).to.equal(true);
    expect(preparesItself(name, folder.path)).to.equal(false);
    await addFile(name, 'medusa2.safetensors');
    expect(preparesItself(name, folder.path), 'heads alone').to.equal(false);
    const adapter = await addFile(name, 'medusa2.adapter.safetensors');
    expect(committedAdapter(name, folder.path)).to.equal(adapter);
    expect(preparesItself(name, folder.path)).to.equal(true);
  });

  it('belong to the default model only', async () => {
    await addFile('llama-medusa2', 'medusa2.adapter.safetensors');
    expect(preparesItself('llama-medusa2', folder.path)).to.equal(false);
  });

  it('bring their own heads', async () => {
    const adapter = await addFile('m', 'medusa2.adapter.safetensors');
    expect(await headsFor(defaultModelName, undefined, adapter)).to.deep.equal([]);
    const heads = await addFile('m', 'medusa2.safetensors');
    await addFile('m', 'other.safetensors');
    expect(await headsFor(defaultModelName, undefined, adapter)).to.deep.equal([heads]);
    expect(await headsFor('anything', [], adapter)).to.deep.equal([]);
    // Nor is what lies beside the default heads taken for heads.
    const committed = (await headsFor(defaultModelName, undefined)).map((each) => basename(each));
    expect(committed).to.deep.equal(['medusa1.safetensors']);
  });

  it('are told apart from other missing models', () => {
    const message = (name: string): string =>
      missingModel(locateModel(name, folder.path), folder.path).message;
    expect(message(`${defaultModelName}-untrained`)).to.contain('train_medusa2.py');
    expect(message('other')).to.contain('prepare --from').and.not.contain('train_medusa2.py');
  });
});
