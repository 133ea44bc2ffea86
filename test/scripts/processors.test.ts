import { expect } from 'chai';
import { join } from 'node:path';
import ts from 'typescript';
import { packageRoot } from '../../src/util/packageRoot.js';

function filesOf(config: string): string[] {
  const path = join(packageRoot(), config);
  const { config: options, error } = ts.readConfigFile(path, ts.sys.readFile);
  expect(error).to.equal(undefined);
  return ts.parseJsonConfigFileContent(options, ts.sys, join(path, '..'), {}, path).fileNames;
}

describe('scripts: other processors', () => {
  it('compile files that the type check has seen', () => {
    const compiled = filesOf('scripts/processors/tsconfig.json');
    expect(filesOf('tsconfig.json')).to.include.members(compiled);
    expect(compiled).to.include(join(packageRoot(), 'test/runtime/cpu/kernels.test.ts'));
  });
});
