/** Run folders with a wrong value in any field of any file: a command names it, or goes on; it never trips over it. */
import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { JUDGMENT_FILE } from '../../../src/bench/judge/judge.js';
import {
  ANSWERS_FILE,
  QUESTIONS_FILE,
  RECORDS_FILE,
  RUN_FILE,
  SKIPPED_FILE,
  TRACE_FILE,
} from '../../../src/bench/run/folder.js';
import { runMain } from '../../support/cli.js';
import { temporaryFolder } from '../../support/tinyModel.js';
import { madeRun, madeTurn } from '../madeRuns.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Path = readonly (string | number)[];

const questions = [1, 2, 3, 4]
  .map((question_id) => `${JSON.stringify({ question_id, category: 'writing', turns: ['One?', 'Two?'] })}\n`)
  .join('');

/** The files of a run as JSON values; those of lines are lists. */
function filesOf(tree: 'none' | 'dynamic', ids: readonly string[]): Record<string, Json> {
  const { info, records, traces } = madeRun(tree, ids, () => madeTurn([3, 1], 15));
  const sha256 = createHash('sha256').update(questions).digest('hex');
  const choice = { index: 0, turns: ['a', 'b'], idxs: [1, 1], new_tokens: [5, 5], wall_time: [0.1, 0.1] };
  const line = { question_id: Number(ids[0]), model: 'm', judge: ['j', 'single-v1'], turn: 1, tstamp: 1 };
  const files = {
    [RUN_FILE]: {
      ...info,
      questions: { ...info.questions, sha256 },
      merged_from: ['a', 'b'],
      missing_shards: ['1/3'],
    },
    [RECORDS_FILE]: [...records.values()],
    [ANSWERS_FILE]: ids.map((id) => ({
      question_id: Number(id),
      answer_id: 'x',
      model_id: 'm',
      choices: [choice],
      tstamp: 1,
    })),
    [TRACE_FILE]: [...traces.values()],
    [SKIPPED_FILE]: [{ question_id: 4, category: 'writing', repeat: 0, turn: 1, reason: 'too long' }],
    [JUDGMENT_FILE]: [{ ...line, user_prompt: 'p', judgment: '[[7]]', score: 7 }],
  };
  return JSON.parse(JSON.stringify(files)) as Record<string, Json>;
}

/** The paths of all values; of lists the first item. */
function pathsOf(value: Json, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const keys = Array.isArray(value) ? [0].slice(0, value.length) : Object.keys(value);
  return [path, ...keys.flatMap((key) => pathsOf((value as Record<string, Json>)[key], [...path, key]))];
}

function valueAt(value: Json, path: Path): Json {
  return path.reduce((each, key) => (each as Record<string, Json>)[key], value);
}

function replaced(value: Json, [key, ...rest]: Path, by: Json): Json {
  if (key === undefined) return by;
  const copy = structuredClone(value) as Record<string, Json>;
  copy[key] = replaced(copy[key], rest, by);
  return copy;
}

/** Stands for a number that JSON can write and no number of ours can be. */
const tooLarge = 'TOO LARGE';
const values: Json[] = [null, true, -1.5, 1e308, tooLarge, 'text', [], {}];

const textOf = (name: string, value: Json): string =>
  (name === RUN_FILE
    ? JSON.stringify(value)
    : (value as Json[]).map((line) => `${JSON.stringify(line)}\n`).join('')
  ).replaceAll(`"${tooLarge}"`, '1e999');

describe('wrong values in run folders', function () {
  this.timeout(300_000);
  let place: Awaited<ReturnType<typeof temporaryFolder>>;
  let prompts: string;
  const at = (...parts: string[]): string => join(place.path, ...parts);

  before(async () => {
    place = await temporaryFolder();
    prompts = at('prompts.jsonl');
    const names = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'];
    const lines = names.map((name) => ({ name, system_prompt: 's', prompt_template: '{answer_1}' }));
    const first = { ...lines[0], prompt_template: '{answer}' };
    await writeFile(prompts, [first, ...lines.slice(1)].map((line) => JSON.stringify(line)).join('\n'));
    await write('none', filesOf('none', ['1', '2']));
    await write('second', filesOf('dynamic', ['3']));
  });
  after(() => place.remove());

  async function write(folder: string, files: Record<string, Json>): Promise<void> {
    await mkdir(at(folder), { recursive: true });
    await writeFile(at(folder, QUESTIONS_FILE), questions);
    for (const [name, value] of Object.entries(files)) await writeFile(at(folder, name), textOf(name, value));
  }

  const commands: Record<string, () => string[]> = {
    compare: () => ['compare', at('none'), at('run'), '--output', at('out')],
    judge: () => [
      ...['bench', 'judge', at('run'), '--judge', 'j', '--base-url', 'http://127.0.0.1:9/v1'],
      ...['--retries', '0', '--prompts', prompts],
    ],
    merge: () => ['bench', 'merge', at('run'), at('second'), '--unfinished', '--output', at('out')],
  };

  it('there are none in what is spoilt here', async () => {
    await write('run', filesOf('dynamic', ['1', '2']));
    const codes: Record<string, number | null> = {};
    for (const [name, command] of Object.entries(commands)) {
      await rm(at('out'), { recursive: true, force: true });
      const { code, stderr } = await runMain(command());
      codes[name] = code;
      if (name === 'judge') expect(stderr).to.contain('127.0.0.1:9');
    }
    // The judge cannot be reached.
    expect(codes).to.deep.equal({ compare: 0, judge: 1, merge: 0 });
  });

  for (const [name, readers] of Object.entries({
    [RUN_FILE]: ['compare', 'judge', 'merge'],
    [RECORDS_FILE]: ['compare', 'merge'],
    [ANSWERS_FILE]: ['judge', 'merge'],
    [TRACE_FILE]: ['compare', 'merge'],
    [SKIPPED_FILE]: ['compare', 'merge'],
    [JUDGMENT_FILE]: ['judge'],
  })) {
    for (const reader of readers) {
      it(`${name}: ${reader} names the field or can do with the value`, async () => {
        const whole = filesOf('dynamic', ['1', '2']);
        await write('run', whole);
        // The list of lines itself stands in no file.
        for (const path of pathsOf(whole[name]).filter(({ length }) => length > 0 || name === RUN_FILE)) {
          const kind = typeof valueAt(whole[name], path);
          // Texts of others are in hostileRuns.test.ts.
          for (const value of values.filter((each) => kind !== 'string' || typeof each !== 'string')) {
            await writeFile(at('run', name), textOf(name, replaced(whole[name], path, value)));
            await rm(at('out'), { recursive: true, force: true });
            const { code, stdout, stderr } = await runMain(commands[reader]());
            const what = `${path.join('.')} = ${JSON.stringify(value)}: ${code} ${stderr.slice(0, 600)}`;
            expect(stdout + stderr, what).to.not.match(
              /TypeError|RangeError|undefined|Cannot read|is not a function|MEDUSA_PLUS_DEBUG/,
            );
            expect(code, what).to.be.oneOf([0, 1, 2, 3]);
            // No field of a run may be true that was not true or false.
            if (value !== true || kind === 'boolean') continue;
            expect(code, what).to.equal(1);
            expect(stderr, what).to.contain(
              name === RUN_FILE ? at('run', name) : `${at('run', name)}, line 1`,
            );
            const field = path.findLast((each) => typeof each === 'string');
            expect(stderr, what)
              .to.contain(field ?? 'its content')
              .and.match(/found true\. \S/);
          }
        }
      });
    }
  }
});
