import { expect } from 'chai';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setAside } from '../../src/util/setAside.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('setting a damaged file aside', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  it('overwrites nothing', async () => {
    const file = join(folder.path, 'memory');
    await writeFile(`${file}.damaged`, 'of the user');
    await mkdir(`${file}.damaged.2`);
    await writeFile(file, 'damaged');
    expect(await setAside(file)).to.equal(`${file}.damaged.3`);
    expect(await readFile(`${file}.damaged`, 'utf8')).to.equal('of the user');
    expect(await readFile(`${file}.damaged.3`, 'utf8')).to.equal('damaged');
  });
});
