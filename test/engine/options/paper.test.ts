import { expect } from 'chai';
import { planVariants } from '../../../src/cli/compareVariants.js';
import type { DecodingOptions } from '../../../src/engine/options/decodingOptions.js';
import { expandPaper, paperTree } from '../../../src/engine/options/paper.js';
import { resolveDecodingOptions } from '../../../src/engine/options/resolve.js';
import { flagOf, optionTable } from '../../../src/engine/options/table.js';
import { UsageError } from '../../../src/util/errors.js';
import { runMain } from '../../support/cli.js';
import { onTiny } from '../../support/tinyModel.js';
import { ableFacts } from './facts.js';

describe("the paper's tree", function () {
  this.timeout(60_000);

  it('is resolved into what it stands for, whatever the model can do', () => {
    const byDefault = resolveDecodingOptions({}, ableFacts);
    expect(byDefault).to.include({ joint: 'conditional', marginals: 'full' });
    expect(byDefault.draft).to.deep.equal(['heads', 'recycle', 'lookup']);
    const resolved = resolveDecodingOptions({ paper: true }, ableFacts);
    expect(resolved).to.include({ tree: 'dynamic', joint: 'product', marginals: 'top-m' });
    expect(resolved.draft).to.deep.equal(['heads']);
    expect(resolved).to.not.have.property('paper');
    expect(resolveDecodingOptions({ paper: false, seed: 1 }, ableFacts)).to.deep.equal({
      ...byDefault,
      seed: 1,
    });
  });

  it('is described as what it stands for', () => {
    for (const [name, value] of Object.entries(paperTree))
      expect(optionTable.paper.help).to.contain(`--${flagOf(name, optionTable[name])} ${String(value)}`);
  });

  it('goes with the same values and with other options, not with other values', () => {
    const same = { ...paperTree, nodes: 64, topM: 8 };
    expect(expandPaper({ ...same, paper: true })).to.deep.equal(same);
    for (const [other, words] of [
      [{ tree: 'static' }, 'tree static'],
      [{ tree: 'none' }, 'tree none'],
      [{ joint: 'conditional' }, 'joint conditional'],
      [{ marginals: 'full' }, 'marginals full'],
      [{ draft: ['heads', 'lookup'] }, 'draft heads,lookup'],
      [{ treePaths: [[0]] }, 'a tree file'],
    ] as [DecodingOptions, string][]) {
      expect(() => resolveDecodingOptions({ ...other, paper: true }, ableFacts), words).to.throw(
        UsageError,
        `it does not go with ${words}`,
      );
      expect(() => resolveDecodingOptions({ ...other, paper: false }, ableFacts)).to.not.throw();
    }
  });

  it('is what generate --paper uses, and records', async () => {
    const args = ['generate', 'Hi', ...onTiny, '--max-new-tokens', '4', '--json'];
    const run = await runMain([...args, '--paper', '--nodes', '6']);
    expect(run.code, run.stderr).to.equal(0);
    expect(JSON.parse(run.stdout))
      .to.deep.include({ ...paperTree, nodes: 6 })
      .and.not.have.property('paper');
    const wrong = await runMain([...args, '--paper', '--draft', 'heads,lookup']);
    expect(wrong.code).to.equal(2);
    expect(wrong.stderr).to.contain('--paper').and.contain('draft heads,lookup');
  });

  const planned = async (
    args: Record<string, unknown>,
    ...texts: string[]
  ): Promise<[string, DecodingOptions][]> => {
    const { variants } = await planVariants(args, texts);
    return variants.map(({ name, decoding }) => {
      expect(decoding.maxNewTokens).to.equal(512);
      return [name, JSON.parse(JSON.stringify({ ...decoding, maxNewTokens: undefined })) as DecodingOptions];
    });
  };
  const refusal = async (args: Record<string, unknown>, ...texts: string[]): Promise<string> =>
    planVariants(args, texts).then(
      () => 'no error',
      (error: Error) => error.message,
    );

  it('is compared with the static tree by compare --paper', async () => {
    expect(await planned({ paper: true })).to.deep.equal([
      ['none', { tree: 'none' }],
      ['static', { tree: 'static' }],
      ['dynamic', paperTree],
    ]);
  });

  it('is a variant of its own beside others', async () => {
    expect(await planned({ draft: 'lookup', nodes: '8' }, '--paper', '--tree dynamic')).to.deep.equal([
      ['none', { tree: 'none', nodes: 8 }],
      ['dynamic paper', { ...paperTree, nodes: 8 }],
      ['dynamic', { tree: 'dynamic', draft: ['lookup'], nodes: 8 }],
    ]);
    expect(
      (await planned({ tree: 'static' }, '--paper --nodes 4', '--top-m 4')).map(([name]) => name),
    ).to.deep.equal(['none', 'dynamic paper nodes=4', 'static top-m=4']);
  });

  it('is refused by name where a variant contradicts it or none can take it', async () => {
    expect(await refusal({}, '--paper --joint conditional')).to.match(
      /^Variant "dynamic paper joint=.*": paper \(--paper/,
    );
    expect(await refusal({ paper: true }, '--draft lookup')).to.match(
      /^Variant "dynamic draft=lookup": paper \(--paper/,
    );
    expect(await refusal({ paper: true }, '--tree static')).to.match(/--paper is of no use .*dynamic trees/);
    expect(await refusal({ paper: true, sweep: 'joint=product,conditional' })).to.match(
      /^Variant "dynamic joint=conditional": paper \(--paper/,
    );
  });
});
