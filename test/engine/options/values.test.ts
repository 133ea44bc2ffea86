import { expect } from 'chai';
import yargs from 'yargs';
import { parseSweep } from '../../../src/bench/run/variants.js';
import {
  asTyped,
  optionSpecs,
  readDecodingOptions,
  readModelOptions,
  readValue,
} from '../../../src/cli/options.js';
import { decodingTable, type DecodingOptions } from '../../../src/engine/options/decodingOptions.js';
import { checkEngineOptions } from '../../../src/engine/options/engineOptions.js';
import type { Entry } from '../../../src/engine/options/entry.js';
import { checkGenerateOptions, promptTable } from '../../../src/engine/options/generateOptions.js';
import { modelTable } from '../../../src/engine/options/modelOptions.js';
import { describeRange } from '../../../src/engine/options/ranges.js';
import { resolveDecodingOptions } from '../../../src/engine/options/resolve.js';
import { flagOf, optionTable } from '../../../src/engine/options/table.js';
import { UsageError } from '../../../src/util/errors.js';
import { ableFacts } from './facts.js';

const entries = Object.entries(optionTable);

/** What an option needs beside it to be taken at all. */
const company: Record<string, DecodingOptions> = {
  topP: { temperature: 1 },
  'acceptance sampling': { temperature: 1 },
  'acceptance typical': { temperature: 1 },
  'acceptance nucleus': { temperature: 1 },
};

/** The option through the library's checks. */
function throughLibrary(name: string, value: unknown): void {
  if (name in modelTable) return checkEngineOptions({ [name]: value });
  const options = { ...company[name], ...company[`${name} ${String(value)}`], [name]: value };
  checkGenerateOptions(options);
  if (!(name in decodingTable)) return;
  const resolved = resolveDecodingOptions(options, ableFacts);
  if (name !== 'paper') expect(resolved).to.have.property(name).that.deep.equals(value);
}

/** The option through the command line; returns what was read. */
async function throughCommandLine(name: string, text: string): Promise<unknown> {
  const args = yargs([`--${flagOf(name, optionTable[name])}=${text}`])
    .options(optionSpecs('generate'))
    .parserConfiguration(asTyped)
    .parseSync();
  if (name in promptTable) return readValue(args, name, optionTable[name]);
  const read = name in modelTable ? await readModelOptions(args) : await readDecodingOptions(args);
  return (read as Record<string, unknown>)[name];
}

async function refused(name: string, value: unknown): Promise<string[]> {
  const messages: string[] = [];
  for (const attempt of [() => throughLibrary(name, value), () => throughCommandLine(name, String(value))]) {
    const error = await Promise.resolve()
      .then<unknown>(attempt)
      .then(
        () => expect.fail(`${name} ${String(value)} was taken`),
        (failure: unknown) => failure as Error,
      );
    expect(error).to.be.instanceOf(UsageError);
    messages.push(error.message);
  }
  expect(messages[0]).to.contain(name);
  expect(messages[1]).to.contain(`--${flagOf(name, optionTable[name])}`);
  return messages;
}

async function taken(name: string, value: unknown): Promise<void> {
  throughLibrary(name, value);
  expect(await throughCommandLine(name, String(value))).to.equal(value);
}

describe('values of options', () => {
  for (const [name, entry] of entries) {
    if (entry.kind === 'number') {
      it(`${name}: takes ${describeRange(entry.range)} and nothing else`, async () => {
        const { minimum, maximum, aboveMinimum, integer } = entry.range;
        const step = integer ? 1 : 1e-9;
        await taken(name, aboveMinimum ? minimum + step : minimum);
        await taken(name, maximum);
        for (const word of Object.keys(entry.words ?? {})) await taken(name, word);
        const wrong = [aboveMinimum ? minimum : minimum - step, maximum + 1, NaN, Infinity, 'oak'];
        if (integer) wrong.push(minimum + 0.5);
        for (const value of wrong) {
          for (const message of await refused(name, value))
            expect(message).to.contain(describeRange(entry.range));
        }
      });
    } else if (entry.kind === 'choice') {
      it(`${name}: takes its choices and nothing else`, async () => {
        const choices = Object.keys(entry.choices);
        for (const choice of choices) await taken(name, choice);
        for (const message of await refused(name, 'oak')) expect(message).to.contain(choices.join(', '));
        expect(() => throughLibrary(name, null)).to.throw(UsageError, choices.join(', '));
      });
    } else {
      it(`${name}: is ${entry.kind}`, () => {
        const right: Record<typeof entry.kind, unknown> = {
          text: 'x',
          texts: ['x'],
          flag: true,
          set: ['heads'],
          paths: [[0]],
        };
        for (const [kind, value] of Object.entries(right)) {
          // Lists of any kind will do where lists of paths are wanted, and lists of words where texts are.
          const lists = ['texts', 'set', 'paths'];
          const isTaken =
            kind === entry.kind ||
            (entry.kind === 'paths' && lists.includes(kind)) ||
            (entry.kind === 'texts' && kind === 'set');
          if (isTaken) throughLibrary(name, value);
          else if (!(kind === 'paths' && entry.kind === 'texts'))
            expect(() => throughLibrary(name, value), kind).to.throw(UsageError, `${name} must be`);
        }
        for (const value of [null, 5, {}]) {
          expect(() => throughLibrary(name, value)).to.throw(UsageError, `${name} must be`);
        }
      });
    }
  }

  it('read flags and lists from the command line', async () => {
    const args = yargs(['--paper', '--stop', 'a', '--stop', 'b'])
      .options(optionSpecs('generate'))
      .parserConfiguration(asTyped)
      .parseSync();
    expect(await readDecodingOptions(args)).to.deep.equal({ paper: true, stop: ['a', 'b'] });
    expect(await readModelOptions(args)).to.deep.equal({});
  });

  it('read lists with spaces after the commas', async () => {
    expect(await throughCommandLine('draft', ' recycle, heads')).to.deep.equal(['heads', 'recycle']);
    expect(parseSweep('nodes=1, 8')).to.deep.equal({ parameter: 'nodes', values: ['1', '8'] });
  });

  it('say of a word that a list of words is wanted', () => {
    expect(() => checkGenerateOptions({ draft: 'recycle' })).to.throw(
      UsageError,
      "draft must be a list of some of heads, recycle, lookup (['heads'], not 'heads'); found \"recycle\".",
    );
  });

  it('refuses names that are no options, with those that are', () => {
    expect(() => checkGenerateOptions({ maxTokens: 5 })).to.throw(
      UsageError,
      /no option maxTokens.*maxNewTokens.*onStep/,
    );
    expect(() => checkEngineOptions({ nodes: 5 })).to.throw(UsageError, /no option nodes.*model, .*maxNodes/);
    expect(() => checkGenerateOptions({ constructor: 5 })).to.throw(UsageError, 'no option constructor');
    expect(() => checkGenerateOptions({ maxTokens: undefined })).to.not.throw();
  });

  it('shows texts that are too long only in part', () => {
    expect(() => checkEngineOptions({ provider: 'x'.repeat(1000) })).to.throw(UsageError, /^.{0,200}$/s);
  });

  it('fills in the default of the table', () => {
    const resolved = resolveDecodingOptions({}, ableFacts);
    for (const [name, entry] of Object.entries<Entry>(decodingTable)) {
      if (entry.default !== undefined && name !== 'paper')
        expect(resolved, name).to.have.property(name).that.deep.equals(entry.default);
    }
  });
});
