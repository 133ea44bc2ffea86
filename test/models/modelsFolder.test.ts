import { expect } from 'chai';
import { join } from 'node:path';
import { modelsFolder } from '../../src/models/modelsFolder.js';
import { packageRoot } from '../../src/util/packageRoot.js';

describe('The folder of the models', () => {
  it('is that of the option, then the environment, then onnx/ of the checkout', () => {
    const environment = { MEDUSA_PLUS_MODELS: '/from/environment' };
    expect(modelsFolder('/asked', environment)).to.equal('/asked');
    expect(modelsFolder(undefined, environment)).to.equal('/from/environment');
    expect(modelsFolder(undefined, {})).to.equal(join(packageRoot(), 'onnx'));
  });
});
