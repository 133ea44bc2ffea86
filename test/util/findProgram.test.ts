import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { findProgram } from '../../src/util/findProgram.js';
import { temporaryFolder } from '../support/tinyModel.js';

describe('findProgram', () => {
  it('takes absolute folders of PATH only, and paths as they are given', async () => {
    const folder = await temporaryFolder();
    try {
      const program = join(folder.path, process.platform === 'win32' ? 'tool.exe' : 'tool');
      await writeFile(program, '', { mode: 0o755 });
      const missing = join(folder.path, 'missing');
      expect(findProgram('tool', ['', '.', missing, folder.path].join(delimiter))).to.equal(program);
      expect(() => findProgram('tool', ['', '.', missing].join(delimiter))).to.throw('not found on PATH');
      expect(findProgram('./tool', '')).to.equal(join(process.cwd(), 'tool'));
    } finally {
      await folder.remove();
    }
  });
});
