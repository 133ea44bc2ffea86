import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { adaptedName } from '../../src/prepare/adapters.js';
import { headsFor } from '../../src/prepare/prepare.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('Models with an adapter', () => {
  it('are named after base and adapter', () => {
    expect(adaptedName('llama', '/x/mine.adapter.safetensors')).to.equal('llama-mine');
  });

  it('bring their own heads', async () => {
    const folder = await temporaryFolder();
    try {
      const addFile = async (name: string): Promise<string> => {
        await writeFile(join(folder.path, name), name);
        return join(folder.path, name);
      };
      const adapter = await addFile('mine.adapter.safetensors');
      expect(await headsFor('llama', undefined, adapter)).to.deep.equal([]);
      const heads = await addFile('mine.safetensors');
      await addFile('other.safetensors');
      expect(await headsFor('llama', undefined, adapter)).to.deep.equal([heads]);
      expect(await headsFor('llama', [], adapter)).to.deep.equal([]);
    } finally {
      await folder.remove();
    }
  });
});
