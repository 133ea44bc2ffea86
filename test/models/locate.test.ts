import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../src/util/errors.js';
import { defaultModelName } from '../../src/models/defaultModel.js';
import { checkModelName, locateModel } from '../../src/models/locate.js';
import { modelsFolder } from '../../src/models/modelsFolder.js';
import { packageRoot, packageVersion } from '../../src/util/packageRoot.js';
import { tinyFolder } from '../support/tinyModel.js';

describe('Where models lie', () => {
  it('finds the package', () => {
    expect(existsSync(join(packageRoot(), 'export', 'requirements.txt'))).to.equal(true);
    expect(packageVersion()).to.match(/^\d+\.\d+\.\d+/);
  });

  it('takes the option, then the environment, then onnx/ of the checkout', () => {
    const environment = { MEDUSA_PLUS_MODELS: '/from/environment' };
    expect(modelsFolder('/asked', environment)).to.equal('/asked');
    expect(modelsFolder(undefined, environment)).to.equal('/from/environment');
    expect(modelsFolder(undefined, {})).to.equal(join(packageRoot(), 'onnx'));
  });

  it('takes what has a separator for a path, all else for a name', () => {
    expect(locateModel(undefined, '/models')).to.deep.include({
      name: defaultModelName,
      folder: `/models/${defaultModelName}`,
      isPrepared: false,
    });
    expect(locateModel(tinyFolder, '/models')).to.deep.include({ folder: tinyFolder, isPrepared: true });
  });

  it('lets no name out of the folder', () => {
    expect(checkModelName('smollm2-135m_x.1')).to.equal('smollm2-135m_x.1');
    for (const name of ['', '.', '..', '.hidden', 'a/b', 'a\\b', 'a b', '-x']) {
      expect(() => checkModelName(name), name).to.throw(UsageError);
    }
  });
});
