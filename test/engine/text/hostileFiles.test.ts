import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MedusaError } from '../../../src/util/errors.js';
import { readManifest } from '../../../src/models/manifest.js';
import type { Manifest } from '../../../src/models/manifestSchema.js';
import { sha256Of } from '../../../src/util/sha256.js';
import { loadTokenizer } from '../../../src/engine/text/load.js';
import { copyTiny, readJson, temporaryFolder } from '../../support/tinyModel.js';

type Json = Record<string, unknown>;

const hostile = [null, 5, -1, 'x', '', true, [], {}, [null], [5], { type: 'Sequence' }, { type: 'x' }];

/** All ways to the values of an object but those of the long tables. */
function paths(value: unknown, depth: number): string[][] {
  if (typeof value !== 'object' || value === null || depth === 0) return [[]];
  const names = Object.keys(value).filter((name) => !/^\d\d+$/.test(name));
  const below = names.flatMap((name) => {
    const isTable = ['vocab', 'merges'].includes(name);
    return paths((value as Json)[name], isTable ? 0 : depth - 1).map((path) => [name, ...path]);
  });
  return [[], ...below];
}

function changed(value: unknown, path: readonly string[], to: unknown): unknown {
  if (path.length === 0) return to;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...(value as Json) }) as Json;
  copy[path[0]] = changed(copy[path[0]], path.slice(1), to);
  return copy;
}

describe('Hostile values in the files of a tokenizer', function () {
  this.timeout(120_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let folder: string;
  let manifest: Manifest;
  before(async () => {
    temporary = await temporaryFolder();
    folder = await copyTiny(temporary.path);
    manifest = await readManifest(folder);
  });
  after(() => temporary.remove());

  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    it(`${name} works, or is refused in words of ours`, async () => {
      const path = join(folder, name);
      const whole = await readJson(path);
      let refused = 0;
      for (const place of paths(whole, 3)) {
        for (const value of hostile) {
          await writeFile(path, JSON.stringify(changed(whole, place, value)));
          const sha256 = await sha256Of(join(folder, 'tokenizer.json'));
          const tokenizer = { ...manifest.tokenizer, sha256, configSha256: undefined };
          try {
            const loaded = await loadTokenizer(folder, { ...manifest, tokenizer });
            const segments = loaded.chatTemplate.render(
              [{ role: 'user', content: 'Hi 12\n' }],
              ['<|im_end|>'],
            );
            loaded.tokenizer.decode(loaded.tokenizer.encode(segments));
          } catch (error) {
            expect(error, `${place.join('.')} = ${JSON.stringify(value)}`).to.be.instanceOf(MedusaError);
            refused++;
          }
        }
      }
      await writeFile(path, JSON.stringify(whole));
      expect(refused).to.be.above(10);
    });
  }
});
