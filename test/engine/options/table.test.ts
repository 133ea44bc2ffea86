import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { decodingSchema } from '../../../src/bench/run/decodingSchema.js';
import { parseSweep, runDecoding } from '../../../src/bench/run/variants.js';
import { decodingTable } from '../../../src/engine/options/decodingOptions.js';
import type { Command, TableFor } from '../../../src/engine/options/entry.js';
import { resolveDecodingOptions } from '../../../src/engine/options/resolve.js';
import { commandsOf, entriesOf, flagOf, optionTable, sweepable } from '../../../src/engine/options/table.js';
import { UsageError } from '../../../src/util/errors.js';
import { readJson } from '../../../src/util/json.js';
import { optionsDoc, optionsPage } from '../../../scripts/optionsDoc.js';
import { runMain } from '../../support/cli.js';
import { ableFacts } from './facts.js';

const flagsOf = (table: typeof optionTable): string[] =>
  Object.entries(table).map(([name, entry]) => flagOf(name, entry));

describe('the option table', () => {
  it('has a flag of its own for each option', () => {
    const flags = flagsOf(optionTable);
    expect(new Set(flags).size).to.equal(flags.length);
    expect(flags).to.include.members(['top-m', 'max-new-tokens', 'tree-file', 'models-dir']);
  });

  for (const command of ['generate', 'bench', 'compare', 'doctor', 'prepare'] as Command[]) {
    it(`is what ${command} --help lists, each option once`, async () => {
      const { stdout, code } = await runMain([command, '--help']);
      expect(code).to.equal(0);
      const listed = [...stdout.split('Examples:')[0].matchAll(/^ {2,6}(?:-\w, +)?--([\w-]+)/gm)].map(
        ([, name]) => name,
      );
      // `prepare` has options of its own with these names.
      const own = command === 'prepare' ? ['precision', 'heads'] : [];
      const taken = flagsOf(entriesOf(command));
      for (const [name, entry] of Object.entries(optionTable)) {
        const flag = flagOf(name, entry);
        const times = listed.filter((each) => each === flag).length;
        if (!own.includes(flag)) expect(times, flag).to.equal(taken.includes(flag) ? 1 : 0);
      }
      expect(taken.length).to.be.above(0);
    });
  }

  it('shows in help what is different for sets of questions', async () => {
    const help = async (command: string): Promise<string> =>
      (await runMain([command, '--help'])).stdout.replace(/\s+/g, ' ');
    const generate = await help('generate');
    const bench = await help('bench');
    expect(generate).to.contain('Most tokens to generate: 1 to 1000000 [default: 256]');
    expect(bench).to.contain('Most tokens of an answer: 1 to 1000000 [default: 512]');
    expect(generate).to.match(/--seed [^[]*\[default: random\]/);
    expect(bench).to.match(/--seed [^[]*\[default: 0\]/);
    expect(generate).to.not.contain('fastchat');
    expect(bench).to.contain('or fastchat (0.7');
  });

  it('is what --sweep takes: the same list when it reads, in its help and in its error', async () => {
    for (const flag of flagsOf(optionTable)) {
      const read = (): unknown => parseSweep(`${flag}=1,2`);
      if (sweepable.includes(flag)) expect(read()).to.deep.equal({ parameter: flag, values: ['1', '2'] });
      else expect(read, flag).to.throw(UsageError, `PARAMETER one of ${sweepable.join(', ')}`);
    }
    expect([...sweepable].sort()).to.deep.equal([
      'acceptance',
      'draft',
      'heads',
      'heads-used',
      'joint',
      'marginals',
      'nodes',
      'precision',
      'top-m',
    ]);
    const { stdout } = await runMain(['compare', '--help']);
    expect(stdout.replace(/\s+/g, ' ')).to.contain(`PARAMETER one of ${sweepable.join(', ')}`);
  });

  it('is what run.json has under decoding', () => {
    const decoding = runDecoding(resolveDecodingOptions({}, ableFacts), {});
    const recorded = Object.values(optionTable).flatMap(({ inRun }) =>
      inRun?.startsWith('decoding.') ? inRun.slice('decoding.'.length) : [],
    );
    expect(Object.keys(decoding)).to.have.members(recorded);
    const read = (value: unknown): unknown => readJson(decodingSchema, JSON.stringify(value), 'run.json', '');
    const written = { ...decoding, treePaths: [[0]], nodes: 2, tree: 'static' };
    expect(read(written)).to.deep.equal(written);
    for (const name of recorded) {
      const { whenAbsent } = optionTable[name];
      const rest = { ...decoding, [name]: undefined };
      if (whenAbsent !== undefined) expect(read(rest)).to.have.deep.property(name, whenAbsent);
      else if (name !== 'treePaths') expect(() => read(rest), name).to.throw(`run.json: ${name} must be`);
      expect(() => read({ ...decoding, [name]: { wrong: 1 } }), name).to.throw(`run.json: ${name} must be`);
    }
  });

  it('reads a run.json that was written before an option was added', () => {
    const first = {
      tree: 'dynamic',
      nodes: 8,
      headsUsed: 4,
      topM: 32,
      marginals: 'full',
      acceptance: 'auto',
      topP: 0.8,
      maxNewTokens: 512,
      stop: [],
    };
    // Fails for an entry that needs whenAbsent and has none.
    const { treePaths, ...read } = readJson(decodingSchema, JSON.stringify(first), 'run.json', '');
    expect(treePaths).to.equal(undefined);
    expect(read).to.deep.equal({ ...first, joint: 'product', draft: ['heads'], ignoreEos: false });
  });

  it('is what docs/options.md was made from (else: npm run docs)', async () => {
    expect(await readFile(optionsPage, 'utf8')).to.equal(optionsDoc());
  });

  it('names commands that there are', () => {
    for (const entry of Object.values(optionTable)) expect(commandsOf(entry)).to.not.have.length(0);
    for (const [name, { inRun }] of Object.entries(decodingTable as typeof optionTable))
      if (inRun !== undefined) expect(inRun).to.match(new RegExp(`^(decoding|protocol)\\.${name}$`));
  });
});

/** Compiled, not run: a table and its interface cannot differ. */
interface Two {
  count?: number | 'auto';
  mode?: 'a' | 'b';
}
const count = {
  group: 'g',
  help: 'h',
  kind: 'number',
  range: { integer: true, minimum: 0, maximum: 1 },
  words: { auto: '' },
} as const;
const mode = { group: 'g', help: 'h', kind: 'choice', choices: { a: '', b: '' } } as const;
void ({ count, mode } satisfies TableFor<Two>);
// @ts-expect-error an option without an entry
void ({ count } satisfies TableFor<Two>);
// @ts-expect-error an entry without an option
void ({ count, mode, more: mode } satisfies TableFor<Two>);
// @ts-expect-error a choice that the entry does not name
void ({ count, mode: { ...mode, choices: { a: '' } } } satisfies TableFor<Two>);
// @ts-expect-error a kind that its values do not have
void ({ count: mode, mode } satisfies TableFor<Two>);
// @ts-expect-error a default that is no value of the option
void ({ count, mode: { ...mode, default: 'c' } } satisfies TableFor<Two>);
