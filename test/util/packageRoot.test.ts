import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot, packageVersion } from '../../src/util/packageRoot.js';

describe('The package', () => {
  it('is found from any of its modules', () => {
    expect(existsSync(join(packageRoot(), 'export', 'requirements.lock'))).to.equal(true);
    expect(packageVersion()).to.match(/^\d+\.\d+\.\d+/);
  });
});
