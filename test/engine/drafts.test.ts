import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { chmod, lstat, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  MedusaEngine,
  MedusaError,
  UsageError,
  type DecodeStep,
  type GenerateOptions,
} from '../../src/index.js';
import { runMain } from '../support/cli.js';
import { onTiny, temporaryFolder, tinyFolder } from '../support/tinyModel.js';

/** A prompt that repeats itself: trees have something to copy from the first step on. */
const prompt = 'one two three four one two three four one two three';

interface Generated {
  readonly notes: string;
  readonly tokens: readonly number[];
  readonly steps: number;
}

describe('Drafts', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    temporary = await temporaryFolder();
  });
  after(() => temporary.remove());

  /** The steps of an answer, in an engine that has given others before. */
  async function stepsOf(engine: MedusaEngine, options: GenerateOptions = {}): Promise<number> {
    const given = { maxNewTokens: 60, nodes: 8, ignoreEos: true, ...options } as const;
    return (await engine.complete(prompt, given)).statistics.steps;
  }

  for (const heads of [undefined, 'none']) {
    it(`give the tokens of plain decoding ${heads ? 'without' : 'with'} heads, at any temperature`, async () => {
      const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads });
      try {
        let unlisted = 0;
        let deepest = 0;
        const onStep = ({ tree }: DecodeStep): void => {
          for (let row = 1; row < (tree?.size ?? 0); row++) {
            if (tree!.ranks[row] === -1) unlisted++;
            deepest = Math.max(deepest, tree!.depths[row]);
          }
        };
        for (const [temperature, text] of [
          [0, prompt],
          [0, `${prompt} and again: ${prompt}`],
          [0.9, prompt],
        ] as const) {
          const run = async (options: GenerateOptions): Promise<readonly number[]> => {
            const given = { maxNewTokens: 40, topM: 8, temperature, seed: 5, ignoreEos: true, ...options };
            return (await engine.complete(text, { ...given, onStep })).tokenIds;
          };
          const plain = await run({ tree: 'none' });
          expect(plain).to.have.length(40);
          unlisted = deepest = 0;
          if (heads === undefined) {
            expect(await run({ nodes: 12, draft: ['heads'] })).to.deep.equal(plain);
            expect(unlisted).to.equal(0);
            expect(deepest).to.be.at.most(4);
          }
          for (const options of [
            { nodes: 12 },
            { nodes: 40, draft: ['lookup'] },
            { nodes: 9, draft: ['recycle'] },
            { nodes: 'auto' },
          ] as const) {
            expect(await run(options)).to.deep.equal(plain);
          }
          expect(unlisted).to.be.above(0);
          expect(deepest).to.be.above(4);
        }
      } finally {
        await engine.dispose();
      }
    });
  }

  it('come from all that there is, from heads alone with the product, and are recorded', async () => {
    for (const [options, draft] of [
      [[], ['heads', 'recycle', 'lookup']],
      [
        ['--draft', 'lookup,heads'],
        ['heads', 'lookup'],
      ],
      [
        ['--draft', 'recycle+lookup'],
        ['recycle', 'lookup'],
      ],
      [['--joint', 'product'], ['heads']],
      [
        ['--joint', 'product', '--draft', 'heads,lookup'],
        ['heads', 'lookup'],
      ],
      [['--tree', 'static'], ['heads']],
      [['--tree', 'none'], []],
      [
        ['--heads', 'none'],
        ['recycle', 'lookup'],
      ],
    ] as const) {
      const run = await runMain([
        ...['generate', 'Hi', ...onTiny, '--nodes', '8', '--top-m', '8'],
        ...['--max-new-tokens', '4', '--json', ...options],
      ]);
      expect(run.code, run.stderr).to.equal(0);
      expect((JSON.parse(run.stdout) as { draft: string[] }).draft).to.deep.equal(draft);
    }
  });

  it('learn from answers before, of the same user only, until they are forgotten', async () => {
    const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads: 'none' });
    try {
      const first = await stepsOf(engine, { user: 'ann' });
      const again = await stepsOf(engine, { user: 'ann' });
      expect(again).to.be.below(first);
      expect(await stepsOf(engine, { user: 'bob' })).to.equal(first);
      expect(await stepsOf(engine)).to.equal(first);
      expect(await stepsOf(engine, { user: 'ann' })).to.be.at.most(again);
      engine.forget({ drafts: false });
      expect(await stepsOf(engine, { user: 'ann' })).to.be.at.most(again);
      // One user, and nobody else.
      const ofBob = await stepsOf(engine, { user: 'bob' });
      const ofNobody = await stepsOf(engine);
      engine.forget('ann');
      expect(await stepsOf(engine, { user: 'bob' })).to.be.at.most(ofBob);
      expect(await stepsOf(engine)).to.be.at.most(ofNobody);
      expect(await stepsOf(engine, { user: 'ann' })).to.equal(first);
      engine.forget();
      for (const user of ['ann', 'bob', undefined]) expect(await stepsOf(engine, { user })).to.equal(first);
      // More users than are kept: the first is forgotten.
      for (let user = 0; user < 16; user++) await stepsOf(engine, { user: `${user}`, maxNewTokens: 2 });
      expect(await stepsOf(engine, { user: 'ann' })).to.equal(first);
    } finally {
      await engine.dispose();
    }
  });

  it('do not mix up users for want of a name', async () => {
    const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads: 'none' });
    try {
      const failure = await stepsOf(engine, { user: '' }).catch((error: unknown) => error);
      expect(failure).to.be.instanceOf(UsageError);
      expect(String(failure)).to.contain('user must be a text of at least one character, not ""');
      expect(() => engine.forget('')).to.throw(UsageError, 'user must be a text');
      for (const [what, words] of [
        [{ user: 5 }, 'user must be'],
        [{ draft: false }, 'no option draft'],
        [{ drafts: 'no' }, 'drafts must be true or false'],
        [null, 'must be an object'],
      ] as const)
        expect(() => engine.forget(what as never)).to.throw(UsageError, words);
    } finally {
      await engine.dispose();
    }
  });

  it('keep in a memory file what the next process goes on from, for its owner only', async () => {
    const memory = join(temporary.path, 'memory');
    const generate = async (...more: string[]): Promise<Generated> => {
      const run = await runMain([
        ...['generate', prompt, ...onTiny, '--heads', 'none', '--nodes', '8'],
        ...['--ignore-eos', '--max-new-tokens', '60', '--json', ...more],
      ]);
      expect(run.code, run.stderr).to.equal(0);
      const { token_ids, steps } = JSON.parse(run.stdout) as { token_ids: number[]; steps: number };
      return { notes: run.stderr, tokens: token_ids, steps };
    };
    const without = await generate();
    const first = await generate('--memory', memory);
    expect([first.tokens, first.steps]).to.deep.equal([without.tokens, without.steps]);
    expect((await stat(memory)).mode & 0o777).to.equal(0o600);
    const again = await generate('--memory', memory);
    expect(again.tokens).to.deep.equal(first.tokens);
    expect(again.steps).to.be.below(first.steps / 2);

    // Forgetting empties the file too.
    const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads: 'none', memory });
    engine.forget();
    await engine.dispose();
    expect((await generate('--memory', memory)).steps).to.equal(first.steps);

    // One byte of the payload is wrong.
    const content = await readFile(memory);
    content[content.length - 9] ^= 1;
    await writeFile(memory, content);
    const damaged = await generate('--memory', memory);
    expect(damaged.steps).to.equal(first.steps);
    expect(damaged.notes).to.contain(`set aside as ${memory}.damaged`);
    expect(await readFile(`${memory}.damaged`)).to.deep.equal(content);
    await writeFile(memory, content.subarray(0, 120));
    await chmod(memory, 0o600);
    expect((await generate('--memory', memory)).notes).to.contain('set aside');
  });

  it('refuse a memory file of another model, and a file that is none', async () => {
    const open = async (memory: string): Promise<string> => {
      const failure = await MedusaEngine.open({ model: tinyFolder, threads: 1, memory }).then(
        (engine) => engine.dispose().then(() => 'opened'),
        (error: unknown) => error,
      );
      expect(failure).to.be.instanceOf(UsageError);
      return String(failure);
    };
    const memory = join(temporary.path, 'other');
    await (await MedusaEngine.open({ model: tinyFolder, threads: 1, memory })).dispose();
    const text = await readFile(memory, 'latin1');
    await writeFile(memory, text.replace('"model":"tiny"', '"model":"giant"'), 'latin1');
    expect(await open(memory)).to.match(/belongs to model giant, and this is tiny.*file of its own/);
    const notes = join(temporary.path, 'notes.txt');
    await writeFile(notes, 'what I must not lose');
    expect(await open(notes)).to.match(/notes.txt is no draft memory.*new file/);
    expect(await readFile(notes, 'utf8')).to.equal('what I must not lose');
    expect(await open(temporary.path)).to.match(/cannot be used: it is a folder/);
  });

  it('refuse a memory that is no regular file, and leave it as it is', async function () {
    if (process.platform === 'win32') return;
    const pipe = join(temporary.path, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const link = join(temporary.path, 'circle');
    await symlink(link, link);
    for (const [memory, words] of [
      ['/dev/null', 'it is a device'],
      [pipe, 'it is a pipe'],
      [link, 'ELOOP'],
    ]) {
      const { ino } = await lstat(memory);
      const run = await runMain(['generate', 'Hi', ...onTiny, '--memory', memory]);
      expect(run.code, run.stderr).to.equal(2);
      expect(run.stdout).to.equal('');
      expect(run.stderr).to.contain(`--memory ${memory} cannot be used: `).and.to.contain(words);
      expect((await lstat(memory)).ino).to.equal(ino);
    }
  });

  it('write a memory through links, also where the last leads to nothing yet', async function () {
    if (process.platform === 'win32') return;
    const folder = join(temporary.path, 'linked');
    await mkdir(join(folder, 'deep'), { recursive: true });
    const [first, second, target] = ['first', 'deep/second', 'target'].map((name) => join(folder, name));
    await symlink('deep/second', first);
    await symlink('../target', second);
    const sizes: number[] = [];
    for (let call = 0; call < 2; call++) {
      const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads: 'none', memory: first });
      await stepsOf(engine);
      await engine.dispose();
      for (const link of [first, second]) expect((await lstat(link)).isSymbolicLink()).to.equal(true);
      const info = await lstat(target);
      expect(info.isFile()).to.equal(true);
      sizes.push(info.size);
    }
    expect(sizes[1]).to.be.above(sizes[0]);
  });

  it('name the memory that cannot be written, and say what is kept', async () => {
    const folder = join(temporary.path, 'gone');
    await mkdir(folder);
    const memory = join(folder, 'memory');
    const engine = await MedusaEngine.open({ model: tinyFolder, threads: 1, heads: 'none', memory });
    await rm(folder, { recursive: true });
    const failure = await engine.dispose().then(
      () => expect.fail('was written'),
      (error: unknown) => error,
    );
    expect(failure).to.be.instanceOf(MedusaError);
    expect(String(failure)).to.contain(`${memory} cannot be written: ENOENT`).and.to.contain('is kept');
  });

  it('are kept from question to question where bench is told so, and each variant learns from its own', async () => {
    const questions = join(temporary.path, 'questions.jsonl');
    const line = (id: number): string =>
      JSON.stringify({ question_id: id, category: 'same', turns: [prompt] });
    await writeFile(questions, [1, 2, 3].map(line).join('\n'));
    const steps = async (name: string, ...more: string[]): Promise<number[][]> => {
      const output = join(temporary.path, name);
      const run = await runMain([
        ...['compare', ...onTiny, '--heads', 'none', '--questions', questions],
        ...[
          '--max-new-tokens',
          '60',
          '--ignore-eos',
          '-a',
          'a: --nodes 8',
          '-b',
          'b: --nodes 8 --draft lookup',
        ],
        ...['--output', output, '--json', '--quiet', ...more],
      ]);
      expect(run.code, run.stderr).to.equal(0);
      return Promise.all(
        ['a', 'b'].map(async (variant) => {
          const lines = (await readFile(join(output, variant, 'records.jsonl'), 'utf8')).trim().split('\n');
          return lines.map((each) => {
            const { repeats } = JSON.parse(each) as { repeats: { turns: { steps: number }[] }[] };
            return repeats[0].turns[0].steps;
          });
        }),
      );
    };
    const [fresh, copying] = await steps('fresh');
    expect(new Set(fresh).size).to.equal(1);
    const [kept, stillCopying] = await steps('kept', '--keep-drafts');
    expect(kept[0]).to.equal(fresh[0]);
    expect(kept[2]).to.be.below(fresh[0]);
    // What the other variant recycled from the same answers is of no use to it.
    expect(stillCopying).to.deep.equal(copying);
  });
});
