import { expect } from 'chai';
import { copyFile, readFile, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { NestedTrees } from '../../src/decoding/tree/nestedTrees.js';
import { sha256Of } from '../../src/util/sha256.js';
import { defaultModelName } from '../../src/models/defaultModel.js';
import { committedHeads, newerHeads } from '../../src/models/headsFiles.js';
import { readManifest } from '../../src/models/manifest.js';
import type { ConditionalEntry, HeadsEntry, Manifest } from '../../src/models/manifestSchema.js';
import { packageRoot } from '../../src/util/packageRoot.js';
import { temporaryFolder, tinyFolder } from '../support/tinyModel.js';

const committed = join(packageRoot(), 'heads', defaultModelName, 'medusa1');

const conditional: ConditionalEntry = {
  file: 'heads.medusa1.conditional.bin',
  bytes: 0,
  sha256: '',
  rank: 1,
  distances: 1,
  activation: 'silu',
  context: false,
  levels: 0,
  vocabSize: 1,
  draftVocabSize: 1,
  sourceSha256: await sha256Of(`${committed}.conditional.safetensors`),
};

/** The manifest of a model that holds the committed heads, with some facts of theirs changed. */
async function manifestWith(changes: Partial<HeadsEntry>): Promise<Manifest> {
  const tiny = await readManifest(tinyFolder);
  const sidecar = JSON.parse(await readFile(`${committed}.json`, 'utf8')) as Record<string, unknown>;
  const heads: HeadsEntry = {
    ...tiny.heads[0],
    name: 'medusa1',
    sourceSha256: await sha256Of(`${committed}.safetensors`),
    temperatures: sidecar.temperatures as number[],
    accuracies: sidecar.accuracies as number[][],
    staticTrees: NestedTrees.fromPaths(sidecar.static_tree, { heads: 4, topM: 64 }),
    conditional,
    ...changes,
  };
  return { ...tiny, heads: [heads] };
}

describe('Committed heads', () => {
  it('are the files of the model by name, without what lies beside them', async () => {
    expect(await committedHeads(defaultModelName)).to.deep.equal([`${committed}.safetensors`]);
    expect(await committedHeads('another')).to.deep.equal([]);
  });
});

describe('Newer heads', () => {
  const cases: [name: string, changes: Partial<HeadsEntry>, isNewer: boolean][] = [
    ['held as they are', {}, false],
    ['other tensors', { sourceSha256: 'other' }, true],
    ['other temperatures', { temperatures: [1, 1, 1, 1] }, true],
    ['other accuracies', { accuracies: [[0.5]] }, true],
    ['no static trees yet', { staticTrees: undefined }, true],
    ['no conditional joint yet', { conditional: undefined }, true],
    ['another conditional joint', { conditional: { ...conditional, sourceSha256: 'other' } }, true],
    ['heads of another name', { name: 'other', sourceSha256: 'other' }, false],
  ];
  for (const [name, changes, isNewer] of cases) {
    it(name, async () => {
      const temporary = await temporaryFolder();
      try {
        const file = join(temporary.path, 'manifest.json');
        await copyFile(join(tinyFolder, 'manifest.json'), file);
        const manifest = await manifestWith(changes);
        const expected = isNewer ? ['medusa1.safetensors'] : [];
        // Prepared before the heads were written: they are looked into.
        await utimes(file, 0, 0);
        expect(await newerHeads(temporary.path, manifest, defaultModelName)).to.deep.equal(expected);
        // Prepared after: nothing is read.
        await utimes(file, 4e9, 4e9);
        expect(await newerHeads(temporary.path, manifest, defaultModelName)).to.deep.equal([]);
      } finally {
        await temporary.remove();
      }
    });
  }
});
