import { expect } from 'chai';
import {
  hubNameOfPath,
  isHubFolder,
  localSourceName,
  parseHubName,
  shortNameOf,
  sourceNameOf,
} from '../../src/models/hubName.js';

describe('Names on the Hugging Face hub', () => {
  it('have an owner, a name, and may have a revision and a file', () => {
    for (const [text, repository, revision, file] of [
      ['o/n', 'o/n', undefined, undefined],
      ['Org-1/A.Model_2@refs/pr/3', 'Org-1/A.Model_2', 'refs/pr/3', undefined],
      ['o/n:q/a-Q4_0.gguf', 'o/n', undefined, 'q/a-Q4_0.gguf'],
      ['o/n@v1.0:a.gguf', 'o/n', 'v1.0', 'a.gguf'],
    ] as const) {
      expect(parseHubName(text), text).to.deep.equal({ repository, revision, file });
    }
    for (const text of [
      'n',
      './n',
      '../n',
      '/o/n',
      'o/n/m',
      'o/n.gguf',
      'o/n@',
      'o/n:a.bin',
      'o/n:../a.gguf',
      'o/n@../x',
      'o\\n',
    ])
      expect(parseHubName(text), text).to.equal(undefined);
  });

  it('are those of what lies in the cache, in place of commits', () => {
    const root = '/c/hub/models--Org--A--Model';
    expect(
      [root, `${root}/snapshots/c0ffee`, `${root}/snapshots/c0ffee/q/a.gguf`].map(hubNameOfPath),
    ).to.deep.equal([
      { repository: 'Org/A--Model', revision: undefined, file: undefined },
      { repository: 'Org/A--Model', revision: 'c0ffee', file: undefined },
      { repository: 'Org/A--Model', revision: 'c0ffee', file: 'q/a.gguf' },
    ]);
    expect(localSourceName(`${root}/snapshots/c0ffee/q/a.gguf`)).to.equal('Org/A--Model:q/a.gguf');
    expect(localSourceName('/x/A-Model/')).to.equal('A-Model');
    expect(hubNameOfPath(`${root}/refs/main`)).to.equal(undefined);
    expect([root, `${root}/`, `${root}/snapshots/c0ffee`].map(isHubFolder)).to.deep.equal([
      true,
      true,
      false,
    ]);
    const part = parseHubName('o/n:q/a-00003-of-00004.gguf')!;
    expect(sourceNameOf(part)).to.equal('o/n:q/a-00001-of-00004.gguf');
    expect(localSourceName('/x/a-00003-of-00004.gguf')).to.equal('a-00001-of-00004.gguf');
    const file = parseHubName('o/n@v1:q/a.gguf')!;
    expect([shortNameOf(file), sourceNameOf(file)]).to.deep.equal(['a.gguf', 'o/n:q/a.gguf']);
  });
});
