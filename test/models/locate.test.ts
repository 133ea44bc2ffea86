import { expect } from 'chai';
import { UsageError } from '../../src/util/errors.js';
import { defaultModelName } from '../../src/models/defaultModel.js';
import { checkModelName, locateModel } from '../../src/models/locate.js';
import { tinyFolder } from '../support/tinyModel.js';

describe('Where models lie', () => {
  it('takes what has a separator for a path, all else for a name', () => {
    expect(locateModel(undefined, '/models')).to.deep.include({
      name: defaultModelName,
      folder: `/models/${defaultModelName}`,
      isPrepared: false,
    });
    expect(locateModel(tinyFolder, '/models')).to.deep.include({ folder: tinyFolder, isPrepared: true });
  });

  it('lets no name out of the folder', () => {
    expect(checkModelName('smollm2-135m_x.1', '--id')).to.equal('smollm2-135m_x.1');
    for (const name of ['', '.', '..', '.hidden', 'a/b', 'a\\b', 'a b', '-x']) {
      expect(() => checkModelName(name, '--id'), name).to.throw(UsageError);
    }
  });
});
