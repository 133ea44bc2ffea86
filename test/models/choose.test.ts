import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelError, UsageError } from '../../src/util/errors.js';
import { chooseGraphs } from '../../src/models/choose.js';
import { precisionNames } from '../../src/models/precisions.js';
import { packageRoot } from '../../src/util/packageRoot.js';
import { readManifest } from '../../src/models/manifest.js';
import type { Manifest } from '../../src/models/manifestSchema.js';
import { folder } from '../runtime/tiny.js';

describe('chooseGraphs', () => {
  let manifest: Manifest;
  before(async () => {
    manifest = await readManifest(folder);
  });

  /** The manifest, its graphs of one precision said to be float16. */
  const withFloat16 = (...kinds: ('backbones' | 'heads' | 'keep')[]): Manifest => ({
    ...manifest,
    ...Object.fromEntries(
      kinds.map((kind) => [
        kind,
        [
          ...manifest[kind],
          ...manifest[kind]
            .filter(({ precision }) => precision === 'fp32')
            .map((entry) => ({ ...entry, precision: 'fp16' })),
        ],
      ]),
    ),
  });

  it('gives the CPU int8 heads beside any backbone', () => {
    for (const precision of ['int8', 'fp32']) {
      const { backbone, heads, keep } = chooseGraphs(manifest, { provider: 'cpu', precision }, folder);
      expect([backbone.precision, backbone.layout]).to.deep.equal([precision, 'split']);
      expect(heads?.precision).to.equal('int8');
      expect(keep).to.equal(undefined);
    }
  });

  it('gives a device heads and keep graph of its backbone’s precision', () => {
    const all = withFloat16('backbones', 'heads', 'keep');
    const { backbone, heads, keep } = chooseGraphs(all, { provider: 'cuda', precision: 'fp16' }, folder);
    expect([backbone.layout, backbone.precision]).to.deep.equal(['shared', 'fp16']);
    expect([heads?.precision, keep?.precision]).to.deep.equal(['fp16', 'fp16']);
  });

  it('says when the heads cannot read the hidden states of the device', () => {
    const some = withFloat16('backbones', 'keep');
    expect(() => chooseGraphs(some, { provider: 'cuda', precision: 'fp16' }, folder)).to.throw(
      ModelError,
      /heads tiny .* no fp16 graph.*prepare .*--precision fp16/,
    );
    const without = chooseGraphs(some, { provider: 'cuda', precision: 'fp16', heads: 'none' }, folder);
    expect(without.heads).to.equal(undefined);
  });

  it('names the heads and precisions that are there', () => {
    expect(() => chooseGraphs(manifest, { provider: 'cpu', heads: 'big' }, folder)).to.throw(
      UsageError,
      'tiny',
    );
    expect(() => chooseGraphs(manifest, { provider: 'cpu', precision: 'int4' }, folder)).to.throw(
      UsageError,
      'int8, fp32',
    );
  });

  it('advises no precision that a family cannot be had in', () => {
    const gemma = { ...manifest, model: { ...manifest.model, family: 'gemma3' } };
    const without = (kept: readonly string[]): Manifest => ({
      ...gemma,
      backbones: gemma.backbones.filter(({ precision }) => kept.includes(precision)),
      defaults: { cpu: undefined, cuda: undefined },
    });
    expect(() => chooseGraphs(without(['fp32']), { provider: 'cpu', precision: 'int8' }, folder))
      .to.throw(UsageError, 'gemma3 cannot be made in it. Model tiny has these precisions for cpu: fp32.')
      .with.property('message')
      .that.does.not.contain('prepare');
    expect(() => chooseGraphs(without([]), { provider: 'cpu' }, folder)).to.throw(
      ModelError,
      '--precision int8-block',
    );
  });

  it('refuses a precision that there is not', () => {
    expect(() => chooseGraphs(manifest, { provider: 'cpu', precision: 'fp99' }, folder)).to.throw(
      UsageError,
      'precision must be one of int8, int4, int8-block, fp32, fp16, not "fp99"',
    );
  });

  it('knows the precisions that the exporter makes', () => {
    const made = readFileSync(join(packageRoot(), 'export/medusa_export/precisions.py'), 'utf8');
    const names = [...made.matchAll(/ Precision\(\s*"([^"]+)"/g)].map(([, name]) => name);
    expect(precisionNames).to.have.members(names);
  });
});
