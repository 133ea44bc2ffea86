import { expect } from 'chai';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findDamage, writeFileList } from '../../src/prepare/fileList.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('the list of a folder', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let path: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    path = join(folder.path, 'packages');
    await mkdir(join(path, 'numpy/__pycache__'), { recursive: true });
    await writeFile(join(path, 'numpy/core.py'), 'x = 1');
    await writeFile(join(path, 'empty.py'), '');
    await writeFile(join(path, 'numpy/__pycache__/core.pyc'), 'cache');
    await mkdir(join(path, 'certifi'));
    await writeFile(join(path, 'certifi/cacert.pem'), 'authorities');
  });
  afterEach(() => folder.remove());

  it('notices each change to a listed file, and no other', async () => {
    await writeFileList(path);
    expect(await findDamage(path)).to.equal(undefined);
    await writeFile(join(path, 'numpy/__pycache__/core.pyc'), 'another');
    await writeFile(join(path, 'certifi/cacert.pem'), 'authorities, and that of a company');
    await writeFile(join(path, 'new.py'), '');
    expect(await findDamage(path)).to.equal(undefined);
    await writeFile(join(path, 'numpy/core.py'), 'x = 2');
    expect(await findDamage(path)).to.equal('numpy/core.py was changed');
    await writeFile(join(path, 'numpy/core.py'), 'x = 1');
    await rm(join(path, 'empty.py'));
    expect(await findDamage(path)).to.equal('empty.py is missing');
    await mkdir(join(path, 'empty.py'));
    expect(await findDamage(path)).to.equal('empty.py is missing');
    await rm(join(path, 'numpy'), { recursive: true });
    expect(await findDamage(path)).to.match(/is missing/);
  });

  it('is made for a folder from before there were lists; what is no list is damage', async () => {
    expect(await findDamage(path)).to.equal(undefined);
    await writeFile(join(path, 'numpy/core.py'), '');
    expect(await findDamage(path)).to.equal('numpy/core.py was changed');
    for (const text of ['', '{"a": 1}', '{"a": ["1", "x"]}', '{"a": [1]}', 'null', '[1]']) {
      await writeFile(join(path, '.files.json'), text);
      expect(await findDamage(path), text).to.equal('.files.json is not a list');
    }
  });
});
