import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkReportFiles } from '../../../src/bench/run/reportFiles.js';
import { UsageError } from '../../../src/util/errors.js';
import { temporaryFolder } from '../../support/tinyModel.js';

describe('reports of a comparison', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  const check = (): Promise<unknown> => checkReportFiles(folder.path).catch((error: unknown) => error);

  it('replace no report of another kind', async () => {
    await writeFile(join(folder.path, 'notes.txt'), '');
    expect(await check()).to.equal(undefined);
    for (const file of ['report.md', 'report.html', 'report.json']) {
      await writeFile(join(folder.path, file), '{"mine": 1}');
      const error = await check();
      expect(error, file).to.be.instanceOf(UsageError);
    }
    await writeFile(join(folder.path, 'report.json'), '{"format": 1, "made": "2026", "base": "plain"}');
    expect(await check()).to.equal(undefined);
    expect(await checkReportFiles(join(folder.path, 'new'))).to.equal(undefined);
  });
});
