import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  environmentVariables,
  formerNameNotes,
  nameInUse,
  readSwitch,
  readVariable,
} from '../../src/util/environment.js';
import { RuntimeFailure } from '../../src/util/errors.js';
import { packageRoot } from '../../src/util/packageRoot.js';
import { runMain } from '../support/cli.js';

const NAME = 'MEDUSA_PLUS_ORT_LIBRARY';
const FORMER = 'MEDUSA_ORT_LIBRARY';

describe('environment variables', () => {
  it('are all listed, and no other name is read', () => {
    const listed = new Set([...Object.keys(environmentVariables), FORMER]);
    const found = new Set<string>();
    for (const folder of ['src', 'export', 'packaging', 'scripts', 'bin']) {
      const root = join(packageRoot(), folder);
      for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(ts|py|cjs|js|sh)$/.test(name)) continue;
        const text = readFileSync(join(root, name), 'utf8');
        for (const [variable] of text.matchAll(/\bMEDUSA_[A-Z_]+/g)) found.add(variable);
      }
    }
    expect([...found].sort()).to.deep.equal([...listed].sort());
  });

  it('are read by their former name when the new one is not set', () => {
    expect(readVariable(NAME, {})).to.equal(undefined);
    expect(readVariable(NAME, { [FORMER]: '/old' })).to.equal('/old');
    expect(readVariable(NAME, { [NAME]: '/new', [FORMER]: '/old' })).to.equal('/new');
    expect(readVariable(NAME, { [NAME]: '', [FORMER]: '/old' })).to.equal('');
    expect(nameInUse(NAME, { [FORMER]: '/old' })).to.equal(FORMER);
    expect(nameInUse(NAME, { [NAME]: '/new', [FORMER]: '/old' })).to.equal(NAME);
    expect(nameInUse(NAME, {})).to.equal(NAME);
  });

  it('ask to be renamed when a former name is in use', () => {
    expect(formerNameNotes({ [FORMER]: '/old' })).to.deep.equal([
      `The environment variable ${FORMER} is now called ${NAME}; please rename it.`,
    ]);
    for (const environment of [{}, { [NAME]: '/new' }, { [NAME]: '', [FORMER]: '/old' }, { [FORMER]: '' }]) {
      expect(formerNameNotes(environment)).to.deep.equal([]);
    }
  });

  it('are switches that may not be misspelt', () => {
    const read = (value?: string): boolean => {
      return readSwitch('MEDUSA_PLUS_CUDA_GRAPHS', { MEDUSA_PLUS_CUDA_GRAPHS: value });
    };
    expect([undefined, '', '0', '1'].map(read)).to.deep.equal([false, false, false, true]);
    expect(() => read('yes')).to.throw(
      RuntimeFailure,
      'MEDUSA_PLUS_CUDA_GRAPHS=yes: expected 1 (on) or 0 (off)',
    );
  });

  describe('on the command line', () => {
    const given = { [NAME]: process.env[NAME], [FORMER]: process.env[FORMER] };
    beforeEach(() => {
      delete process.env[NAME];
      process.env[FORMER] = '/nowhere/libonnxruntime.so';
    });
    afterEach(() => {
      for (const [name, value] of Object.entries(given)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    });
    const tiny = ['--model', join(packageRoot(), 'test/fixtures/tiny'), '--max-new-tokens', '1'];

    it('draw the note on stderr where the variable matters, and are followed', async () => {
      const run = await runMain(['generate', 'Hi', ...tiny, '--provider', 'auto']);
      expect(run.code).to.equal(0);
      expect(run.stderr.split('\n').filter((line) => line.includes('now called'))).to.have.length(1);
      expect(run.stderr).to.contain('/nowhere/libonnxruntime.so');
    });

    it('say nothing on the CPU', async () => {
      const run = await runMain(['generate', 'Hi', ...tiny]);
      expect(run.code).to.equal(0);
      expect(run.stderr).to.not.contain('now called');
    });

    it('are named by doctor', async () => {
      const run = await runMain(['doctor', '--json', '--models-dir', '/nowhere']);
      const { findings } = JSON.parse(run.stdout) as { findings: { what: string; detail: string }[] };
      expect(findings.find(({ what }) => what === 'Environment')?.detail).to.contain(`now called ${NAME}`);
      expect(findings.find(({ what }) => what === 'CUDA')?.detail).to.contain('/nowhere/libonnxruntime.so');
    });
  });
});
