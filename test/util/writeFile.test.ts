import { expect } from 'chai';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeJson, writeWhole } from '../../src/util/writeFile.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('Writing a whole file', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let file: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    file = join(folder.path, 'file');
  });
  afterEach(() => folder.remove());

  it('replaces the old content, and leaves nothing else', async () => {
    await writeWhole(file, 'a long old content');
    await writeWhole(file, 'new');
    expect(await readFile(file, 'utf8')).to.equal('new');
    await writeJson(file, { a: [1] });
    expect(await readFile(file, 'utf8')).to.equal('{\n "a": [\n  1\n ]\n}\n');
    expect(await readdir(folder.path)).to.deep.equal(['file']);
  });

  it('never shows half a file', async () => {
    const contents = ['a', 'b'].map((letter) => letter.repeat(1 << 20));
    await writeWhole(file, contents[0]);
    let isWriting = true;
    const writing = (async () => {
      for (let i = 0; i < 20; i++) await writeWhole(file, contents[i % 2]);
      isWriting = false;
    })();
    while (isWriting) expect(contents.includes(await readFile(file, 'utf8'))).to.equal(true);
    await writing;
  });

  it('leaves nothing behind when it fails', async () => {
    await mkdir(file);
    const failed = await writeWhole(file, 'new').then(
      () => 'written',
      (error: NodeJS.ErrnoException) => error.code,
    );
    expect(failed).to.be.oneOf(['EISDIR', 'EPERM']);
    expect(await readdir(folder.path)).to.deep.equal(['file']);
  });
});
