import { expect } from 'chai';
import { join } from 'node:path';
import ts from 'typescript';
import { packageRoot } from '../../src/util/packageRoot.js';

function filesOf(config: string): string[] {
  const host = { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => expect.fail(config) };
  return ts.getParsedCommandLineOfConfigFile(join(packageRoot(), config), {}, host)!.fileNames;
}

describe('scripts: other processors', () => {
  it('compile files that the type check has seen', () => {
    const compiled = filesOf('scripts/processors/tsconfig.json');
    expect(filesOf('tsconfig.json')).to.include.members(compiled);
    expect(compiled.some((file) => file.endsWith('/test/runtime/cpu/kernels.test.ts'))).to.equal(true);
  });
});
