import { expect } from 'chai';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareRuns, loadRun } from '../../../src/bench/compare/load.js';
import { parseQuestions } from '../../../src/bench/questions/parse.js';
import type { RunInfo } from '../../../src/bench/run/formats.js';
import { mergeRuns } from '../../../src/bench/run/merge.js';
import { acceptanceOf, answerId, temperatureOf, turnSeed } from '../../../src/bench/run/plan.js';
import { runSession, type SessionRequest } from '../../../src/bench/run/session.js';
import {
  folderNames,
  nameVariant,
  parseSweep,
  slug,
  splitArguments,
  type Variant,
} from '../../../src/bench/run/variants.js';
import { ContextError, RuntimeFailure, UsageError } from '../../../src/util/errors.js';
import { ScriptedEngine } from '../scriptedEngine.js';

const set = parseQuestions(
  new TextEncoder().encode(
    ['writing', 'math', 'stem']
      .map((category, index) =>
        JSON.stringify({ question_id: index + 1, category, turns: [`${category}?`, 'And?'] }),
      )
      .join('\n'),
  ),
  'three',
);
const variants: Variant[] = [
  { name: 'none', decoding: { tree: 'none', maxNewTokens: 6 }, model: {} },
  { name: 'dynamic', decoding: { tree: 'dynamic', nodes: 8, maxNewTokens: 6 }, model: {} },
];

describe('runs', () => {
  let parent: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'medusa-run-'));
  });
  afterEach(() => rm(parent, { recursive: true, force: true }));

  function request(engine: ScriptedEngine, change: Partial<SessionRequest> = {}): SessionRequest {
    return {
      set,
      questions: set.questions,
      variants,
      folderOf: (variant) => join(parent, variant.name),
      temperature: 0,
      seed: 3,
      repeats: 1,
      trace: true,
      quiet: true,
      openEngine: () => Promise.resolve({ engine, tokenText: (ids) => `<${ids.join()}>` }),
      ...change,
    };
  }

  /** "variant question turn" of each measured generation; warm-ups have another prompt. */
  const order = (engine: ScriptedEngine): string[] =>
    engine.calls
      .filter(({ messages }) => !messages[0].content.startsWith('Name'))
      .map(({ messages, options }) => `${options.tree} ${messages[0].content} ${(messages.length + 1) / 2}`);

  it('interleaves the variants question by question, in an order that turns', async () => {
    const engine = new ScriptedEngine();
    expect(await runSession(request(engine))).to.equal(true);
    expect(order(engine)).to.deep.equal(
      [
        'none writing?',
        'dynamic writing?',
        'dynamic math?',
        'none math?',
        'none stem?',
        'dynamic stem?',
      ].flatMap((each) => [`${each} 1`, `${each} 2`]),
    );
    expect(engine.disposed).to.equal(true);
  });

  it('gives the second turn the first real answer, and keeps the cache between the two only', async () => {
    const engine = new ScriptedEngine();
    await runSession(request(engine));
    const measured = engine.calls.slice(2);
    for (const { messages, afterForget } of measured) expect(afterForget).to.equal(messages.length === 1);
    const second = measured.find(({ messages }) => messages.length === 3)!;
    expect(second.messages.map(({ role }) => role)).to.deep.equal(['user', 'assistant', 'user']);
    expect(second.messages[1].content).to.equal('5 6 7 8 9 11');
  });

  it('writes answers as FastChat and Medusa do', async () => {
    await runSession(request(new ScriptedEngine()));
    const { answers } = await loadRun(join(parent, 'dynamic'));
    const answer = answers.get('2')!;
    expect(Object.keys(answer)).to.deep.equal(['question_id', 'answer_id', 'model_id', 'choices', 'tstamp']);
    expect(answer.model_id).to.equal('scripted-dynamic');
    // 6 tokens: one of the prefill, then steps of 3 and 2; idxs is the index of the last step.
    expect(answer.choices).to.deep.equal([
      {
        index: 0,
        turns: ['5 6 7 8 9 11', '5 6 7 8 9 13'],
        idxs: [1, 1],
        new_tokens: [6, 6],
        wall_time: [0.022, 0.022],
      },
    ]);
  });

  it('records steps, depths and where the real token stood in the heads', async () => {
    await runSession(request(new ScriptedEngine()));
    const run = await loadRun(join(parent, 'dynamic'));
    const [turn] = run.records.get('1')!.repeats[0].turns;
    expect(turn.token_ids).to.deep.equal([5, 6, 7, 8, 9, 11]);
    expect(turn.accept_lengths).to.deep.equal([3, 2]);
    expect(turn.accepted_depths).to.deep.equal([2, 1]);
    expect(turn.node_counts).to.deep.equal([3, 2]);
    expect(turn.head_ranks).to.deep.equal([0, 1, 0, 1]);
    expect(turn.stage_ms.backbone).to.deep.equal([8, 8]);
    const trace = run.traces.get('1')!;
    expect(trace.turns[0].steps[0]).to.deep.equal({
      tokens: [5, 6, 7],
      parents: [-1, 0, 1],
      probabilities: [1, 0.5, 0.25],
      accepted: [0, 1, 2],
      bonus: 8,
      position: 0,
    });
    expect(trace.texts['8']).to.equal('<8>');
    const [plain] = (await loadRun(join(parent, 'none'))).records.get('1')!.repeats[0].turns;
    expect(plain.accept_lengths).to.deep.equal([1, 1, 1, 1, 1]);
    expect(plain.head_ranks).to.deep.equal([]);
  });

  it('sets temperature, acceptance and seed by question, turn and repeat', async () => {
    const engine = new ScriptedEngine();
    await runSession(request(engine, { temperature: 'fastchat', repeats: 2, variants: [variants[1]] }));
    const given = new Map(
      engine.calls.slice(1).map(({ messages, options }) => [messages[0].content, options]),
    );
    expect([...given.values()].map(({ temperature, acceptance }) => [temperature, acceptance])).to.deep.equal(
      [
        [0.7, 'sampling'],
        [0, 'greedy'],
        [0.1, 'sampling'],
      ],
    );
    const seeds = engine.calls.slice(1).map(({ options }) => options.seed);
    expect(new Set(seeds).size).to.equal(12);
    expect(seeds[0]).to.equal(turnSeed(3, 1, 0, 0));
    const { answers } = await loadRun(join(parent, 'dynamic'));
    expect(answers.get('1')!.choices.map(({ index }) => index)).to.deep.equal([0, 1]);
  });

  it('stops at an abort with whole questions only, and goes on from there', async () => {
    const controller = new AbortController();
    const engine = new ScriptedEngine((messages) => {
      if (messages[0].content === 'math?' && messages.length === 3) controller.abort();
      return [5, 6];
    });
    expect(await runSession(request(engine, { signal: controller.signal }))).to.equal(false);
    const broken = await loadRun(join(parent, 'dynamic'));
    expect(broken.info.status).to.equal('interrupted');
    // The turn that was under way when the abort came was finished, so its question counts.
    expect([...broken.answers.keys()]).to.deep.equal(['1', '2']);
    expect([...(await loadRun(join(parent, 'none'))).answers.keys()]).to.deep.equal(['1']);
    const again = new ScriptedEngine(() => [5, 6]);
    expect(await runSession(request(again))).to.equal(true);
    expect(order(again)).to.deep.equal([
      'none math? 1',
      'none math? 2',
      'none stem? 1',
      'none stem? 2',
      'dynamic stem? 1',
      'dynamic stem? 2',
    ]);
    expect([...(await loadRun(join(parent, 'none'))).answers.keys()]).to.deep.equal(['1', '2', '3']);
  });

  it('stops at a question that cannot be asked when told to, names it and leaves what was finished', async () => {
    const engine = new ScriptedEngine((messages) => {
      if (messages[0].content === 'stem?') throw new UsageError('The prompt has 9999 tokens.');
      return [5, 6];
    });
    const error = await runSession(request(engine, { onError: 'stop' })).catch(
      (caught: unknown) => caught as Error,
    );
    expect((error as Error).message).to.equal('Question 3 (none), turn 1: The prompt has 9999 tokens.');
    const run = await loadRun(join(parent, 'none'));
    expect(run.info.status).to.equal('failed');
    expect(run.answers.size).to.equal(2);
  });

  it('leaves no folder behind when it fails before the first answer', async () => {
    const folderOf = ({ name }: Variant): string => join(parent, 'runs', 'new', name);
    const conditional: Variant = {
      name: 'bad',
      decoding: { tree: 'static', joint: 'conditional' },
      model: {},
    };
    const failures: Partial<SessionRequest>[] = [
      // Refused by the options, by the engine at its first generation, and by a folder of something else.
      { variants: [...variants, conditional] },
      { openEngine: () => Promise.resolve({ engine: failing }) },
      { folderOf: (variant) => (variant.name === 'none' ? folderOf(variant) : foreign) },
    ];
    const failing = new ScriptedEngine(() => {
      throw new UsageError('A bad tree.');
    });
    const foreign = join(parent, 'foreign');
    await mkdir(foreign);
    await writeFile(join(foreign, 'notes.txt'), 'mine');
    const before = (await readdir(parent, { recursive: true })).sort();
    for (const change of failures) {
      const run = runSession(request(new ScriptedEngine(), { folderOf, ...change }));
      expect(
        await run.then(
          () => undefined,
          (error: Error) => error,
        ),
      ).to.be.instanceOf(UsageError);
      expect((await readdir(parent, { recursive: true })).sort()).to.deep.equal(before);
    }
    // An empty folder of the user's is his, and what a run has finished is kept.
    await mkdir(join(parent, 'none'));
    await runSession(request(failing)).catch(() => undefined);
    expect(await readdir(join(parent, 'none'))).to.deep.equal([]);
    await runSession(request(new ScriptedEngine()));
    const finished = (await readdir(parent, { recursive: true })).sort();
    await runSession(request(failing, { variants: [...variants, conditional] })).catch(() => undefined);
    expect((await readdir(parent, { recursive: true })).sort()).to.deep.equal(finished);
  });

  it('says that a file stands where its folders should be, before an engine is opened', async () => {
    const file = join(parent, 'file');
    await writeFile(file, 'a file');
    const openEngine: SessionRequest['openEngine'] = () => Promise.reject(new Error('opened'));
    for (const folder of [file, join(file, 'none')]) {
      const run = runSession(request(new ScriptedEngine(), { folderOf: () => folder, openEngine }));
      expect(await run.catch((error: Error) => error.message)).to.match(/file is a file, not a folder/);
    }
  });

  it('takes the threads that a folder was begun with, for it and for new ones beside it, unless told others', async () => {
    const asked = async (
      change: Partial<SessionRequest>,
      measured: number,
    ): Promise<(number | undefined)[]> => {
      const threads: (number | undefined)[] = [];
      const openEngine: SessionRequest['openEngine'] = (model) => {
        threads.push(model.threads);
        const engine = new ScriptedEngine(undefined, undefined, model.threads ?? measured);
        return Promise.resolve({ engine });
      };
      await runSession(request(new ScriptedEngine(), { openEngine, ...change }));
      return threads;
    };
    expect(await asked({ variants: [variants[1]] }, 2)).to.deep.equal([undefined]);
    expect(await asked({}, 1)).to.deep.equal([2]);
    const told = variants.map((variant) => ({ ...variant, model: { threads: 3 } }));
    const refused = await asked({ variants: told }, 1).catch((error: Error) => error.message);
    expect(refused).to.match(/machine.threads = 2, this run has 3; nothing was changed. Give --threads 2/);
  });

  describe('a question that cannot be asked', () => {
    /** The second turn of question 2 is too long, for the tree alone. */
    const tooLong = (): ScriptedEngine =>
      new ScriptedEngine((messages, { tree }) => {
        if (messages[0].content === 'math?' && messages.length === 3 && tree === 'dynamic')
          throw new ContextError('The prompt has 9999 tokens.');
        return [5, 6, 7];
      });

    it('is recorded with its reason, and the run goes on to its end', async () => {
      expect(await runSession(request(tooLong()))).to.equal(true);
      const [none, dynamic] = await Promise.all(variants.map(({ name }) => loadRun(join(parent, name))));
      expect([none.info.status, dynamic.info.status]).to.deep.equal(['complete', 'complete']);
      expect([...none.answers.keys()]).to.deep.equal(['1', '2', '3']);
      expect([...dynamic.answers.keys()]).to.deep.equal(['1', '3']);
      expect([...dynamic.records.keys()]).to.deep.equal(['1', '3']);
      expect(none.skipped!.size).to.equal(0);
      expect([...dynamic.skipped!.values()]).to.deep.equal([
        { question_id: 2, category: 'math', repeat: 0, turn: 2, reason: 'The prompt has 9999 tokens.' },
      ]);
    });

    it('is left out of both sides of a comparison, which says so', async () => {
      await runSession(request(tooLong()));
      const runs = await Promise.all(variants.map(({ name }) => loadRun(join(parent, name), name)));
      const { ids, notes } = compareRuns(runs);
      expect(ids).to.deep.equal(['1', '3']);
      expect(notes).to.include(
        'dynamic: 1 of 3 questions could not be asked and was skipped: question 2, turn 2: ' +
          'The prompt has 9999 tokens.',
      );
      expect(notes.join()).to.include('Skipped questions are left out of all runs');
      expect(notes).to.include('plain: 3 questions, of which 2 are in all runs and counted.');
    });

    it('is not asked again when the run goes on, not even after a kill', async () => {
      const controller = new AbortController();
      const engine = new ScriptedEngine((messages) => {
        if (messages[0].content === 'writing?') throw new UsageError('The template refuses it.');
        if (messages[0].content === 'math?') controller.abort();
        return [5, 6];
      });
      await runSession(request(engine, { signal: controller.signal, variants: [variants[1]] }));
      const path = join(parent, 'dynamic', 'skipped.jsonl');
      // What a kill leaves of a line.
      await appendFile(path, '{"question_id": 2, "cat');
      const again = new ScriptedEngine((messages) => {
        if (messages[0].content === 'stem?') throw new ContextError('Too long.');
        return [5, 6];
      });
      expect(await runSession(request(again, { variants: [variants[1]] }))).to.equal(true);
      expect(order(again)).to.deep.equal(['dynamic math? 1', 'dynamic math? 2', 'dynamic stem? 1']);
      const run = await loadRun(join(parent, 'dynamic'));
      expect([...run.answers.keys()]).to.deep.equal(['2']);
      expect([...run.skipped!.keys()]).to.deep.equal(['1', '3']);
      const third = new ScriptedEngine();
      expect(await runSession(request(third, { variants: [variants[1]] }))).to.equal(true);
      expect(third.calls).to.deep.equal([]);
    });

    it('is skipped as a whole when only a later repeat fails', async () => {
      let asked = 0;
      const engine = new ScriptedEngine((messages) => {
        if (messages[0].content === 'math?' && ++asked === 4) throw new ContextError('Too long.');
        return [5, 6];
      });
      expect(await runSession(request(engine, { repeats: 3, variants: [variants[1]] }))).to.equal(true);
      const run = await loadRun(join(parent, 'dynamic'));
      expect([...run.answers.keys()]).to.deep.equal(['1', '3']);
      expect(run.skipped!.get('2')).to.include({ repeat: 1, turn: 2 });
      expect(asked).to.equal(4);
    });

    it('is something else than a runtime that failed: that stops the run', async () => {
      const engine = new ScriptedEngine((messages) => {
        if (messages[0].content === 'math?') throw new RuntimeFailure('No memory.');
        return [5, 6];
      });
      const error = await runSession(request(engine)).catch((caught: unknown) => caught as Error);
      expect((error as Error).message).to.match(/Question 2 \(dynamic\), turn 1: No memory/);
      expect((await loadRun(join(parent, 'dynamic'))).skipped!.size).to.equal(0);
    });

    it('goes along when shards are merged', async () => {
      const shardOf = (index: number): Partial<SessionRequest> => ({
        questions: set.questions.filter((_, position) => position % 2 === index),
        shard: `${index + 1}/2`,
        folderOf: (variant) => join(parent, `${variant.name}-${index}`),
      });
      for (const index of [0, 1]) await runSession(request(tooLong(), shardOf(index)));
      const merged = join(parent, 'merged');
      const info = await mergeRuns([join(parent, 'dynamic-0'), join(parent, 'dynamic-1')], merged);
      expect(info.status).to.equal('complete');
      const run = await loadRun(merged);
      expect([...run.answers.keys()]).to.deep.equal(['1', '3']);
      expect([...run.records.keys()]).to.deep.equal(['1', '3']);
      expect([...run.skipped!.keys()]).to.deep.equal(['2']);
    });
  });

  it('keeps the question file byte for byte', async () => {
    await runSession(request(new ScriptedEngine()));
    const kept = await readFile(join(parent, 'dynamic', 'questions.jsonl'));
    expect(kept).to.deep.equal(Buffer.from(set.bytes));
  });

  describe('merging shards', () => {
    const shards = async (count: number, indices: readonly number[], name = 'three'): Promise<string[]> => {
      const folders: string[] = [];
      for (const index of indices) {
        const folder = join(parent, `${name.replaceAll('/', '-')}-${index}-${count}`);
        folders.push(folder);
        const change: Partial<SessionRequest> = {
          set: { ...set, name },
          questions: set.questions.filter((_, position) => position % count === index - 1),
          shard: `${index}/${count}`,
          variants: [variants[1]],
          folderOf: () => folder,
        };
        await runSession(request(new ScriptedEngine(), change));
      }
      return folders;
    };
    const failure = async (folders: string[]): Promise<string> => {
      const error = await mergeRuns(folders, join(parent, 'no')).catch((caught: unknown) => caught);
      expect(error).to.be.instanceOf(UsageError);
      expect(await readdir(parent)).to.not.include('no');
      return (error as Error).message;
    };

    it('names those that are missing, the last one too, and refuses', async () => {
      const folders = await shards(3, [1, 2, 3]);
      expect(await failure(folders.slice(0, 2))).to.match(/^Shard 3\/3 is missing: .*--unfinished/);
      expect(await failure([folders[0], folders[0]])).to.match(/Shard 2\/3, 3\/3 is missing/);
      expect((await mergeRuns(folders, join(parent, 'all'))).status).to.equal('complete');
    });

    it('without the missing ones, when asked, is not complete and says so', async () => {
      const folders = await shards(3, [1, 3]);
      const info = await mergeRuns(folders, join(parent, 'part'), { unfinished: true });
      expect(info).to.deep.include({ status: 'interrupted', missing_shards: ['2/3'] });
      const run = await loadRun(join(parent, 'part'));
      expect([...run.answers.keys()]).to.deep.equal(['1', '3']);
      const { notes } = compareRuns([run, { ...run, name: 'other' }]);
      expect(notes.join('\n')).to.include('All runs: merged without shard 2/3.');
    });

    it('of different divisions is refused', async () => {
      const folders = [...(await shards(2, [2])), ...(await shards(3, [1]))];
      expect(await failure(folders)).to.match(/Shards 2\/2, 1\/3 are parts of different divisions/);
    });

    it('takes question files for equal by their contents, and keeps them', async () => {
      const folders = [...(await shards(2, [1], '/here/q.jsonl')), ...(await shards(2, [2], 'there.jsonl'))];
      const info = await mergeRuns(folders, join(parent, 'both'));
      expect(info.questions.ids).to.deep.equal([1, 2, 3]);
      expect(await readFile(join(parent, 'both', 'questions.jsonl'))).to.deep.equal(Buffer.from(set.bytes));
      const runFile = join(folders[1], 'run.json');
      const changed = JSON.parse(await readFile(runFile, 'utf8')) as RunInfo;
      await writeFile(
        runFile,
        JSON.stringify({ ...changed, questions: { ...changed.questions, sha256: 'x' } }),
      );
      expect(await failure(folders)).to.match(/are not parts of one run: questions.sha256/);
    });
  });

  it('merges shards into what one run would have written', async () => {
    const shardOf = (index: number): Partial<SessionRequest> => ({
      questions: set.questions.filter((_, position) => position % 2 === index),
      shard: `${index + 1}/2`,
      folderOf: (variant) => join(parent, `${variant.name}-${index}`),
    });
    await runSession(request(new ScriptedEngine()));
    for (const index of [1, 0]) await runSession(request(new ScriptedEngine(), shardOf(index)));
    const merged = join(parent, 'merged');
    await mergeRuns([join(parent, 'dynamic-1'), join(parent, 'dynamic-0')], merged);
    const lines = async (folder: string): Promise<string[]> =>
      (await readFile(join(folder, 'records.jsonl'), 'utf8')).split('\n');
    expect(await lines(merged)).to.deep.equal(await lines(join(parent, 'dynamic')));
    expect((await loadRun(merged)).info.questions.ids).to.deep.equal([1, 2, 3]);
  });

  it('merges the finished questions of a stopped run with a run of the rest, when told to', async () => {
    const controller = new AbortController();
    const stopped = new ScriptedEngine((messages) => {
      if (messages[0].content === 'math?' && messages.length === 3) controller.abort();
      return [5, 6];
    });
    await runSession(request(stopped, { signal: controller.signal }));
    const rest: Partial<SessionRequest> = {
      questions: set.questions.slice(2),
      folderOf: (variant) => join(parent, `${variant.name}-rest`),
    };
    await runSession(request(new ScriptedEngine(() => [5, 6]), rest));
    const folders = [join(parent, 'dynamic'), join(parent, 'dynamic-rest')];
    const refused = await mergeRuns(folders, join(parent, 'no')).catch((error: unknown) => error as Error);
    expect((refused as Error).message).to.match(
      /dynamic is interrupted, not complete: finish it first .*--unfinished/,
    );

    const merged = join(parent, 'merged');
    await mergeRuns(folders, merged, { unfinished: true });
    const run = await loadRun(merged);
    expect(run.info).to.include({ status: 'complete' });
    expect(run.info.questions.ids).to.deep.equal([1, 2, 3]);
    expect([...run.records.keys()]).to.deep.equal(['1', '2', '3']);
    expect([...run.answers.keys()]).to.deep.equal(['1', '2', '3']);
  });

  it('refuses to merge what does not belong together', async () => {
    await runSession(request(new ScriptedEngine()));
    const [none, dynamic] = [join(parent, 'none'), join(parent, 'dynamic')];
    const failure = (folders: string[], output = join(parent, 'new')): Promise<string> =>
      mergeRuns(folders, output).then(
        () => 'merged',
        (error: unknown) => (error as Error).message,
      );
    expect(await failure([none, dynamic])).to.match(/are not parts of one run: decoding.tree is "none"/);
    expect(await failure([none, none])).to.match(/Question 1 is in both/);
    expect(await failure([none, parent])).to.match(/is not a bench folder/);
    await writeFile(join(parent, 'busy'), '');
    expect(await failure([none])).to.match(/at least two/);
  });
});

describe('plans and variants', () => {
  it('has temperatures and acceptances by question', () => {
    expect(
      ['writing', 'humanities', 'coding', 'other'].map((each) => temperatureOf('fastchat', each)),
    ).to.deep.equal([0.7, 0.1, 0, 0.7]);
    expect(acceptanceOf('typical', 0)).to.equal('greedy');
    expect(acceptanceOf('typical', 0.7)).to.equal('typical');
    expect(acceptanceOf('auto', 0.7)).to.equal('sampling');
  });

  it('derives seeds and answer ids from what is asked', () => {
    expect(turnSeed(1, 81, 0, 1)).to.equal(turnSeed(1, 81, 0, 1));
    expect(turnSeed(1, 81, 0, 1)).to.not.equal(turnSeed(2, 81, 0, 1));
    expect(answerId('m', 0, 81)).to.match(/^[A-Za-z0-9]{22}$/);
  });

  it('splits and names variants', () => {
    expect(splitArguments(`--tree static --tree-file "my tree.json" --stop='a b'`)).to.deep.equal([
      '--tree',
      'static',
      '--tree-file',
      'my tree.json',
      '--stop=a b',
    ]);
    for (const open of ['--stop "a', "--stop 'a", `--a 'b' "c 'd'`])
      expect(() => splitArguments(open), open).to.throw(UsageError, 'a quotation mark is not closed');
    expect(splitArguments('--tree-file C:\\trees\\x.json ""')).to.deep.equal([
      '--tree-file',
      'C:\\trees\\x.json',
      '',
    ]);
    expect(splitArguments('  ')).to.deep.equal([]);
    expect(nameVariant(['--tree', 'static'])).to.equal('static');
    expect(nameVariant(['--nodes=8', '--tree', 'dynamic'])).to.equal('dynamic nodes=8');
    expect(nameVariant(['--tree-file', 'x.json'])).to.equal('static tree-file=x.json');
    expect(nameVariant(['--top-m', '4'], 'static')).to.equal('static top-m=4');
    expect(nameVariant(['--paper', '--nodes', '8'], 'static')).to.equal('dynamic paper nodes=8');
    expect(slug('dynamic nodes=8 top-p=0.5')).to.equal('dynamic-nodes-8-top-p-0.5');
  });

  it('gives every variant a folder of its own, whatever it is called', () => {
    const names = [
      '高速',
      '低速',
      'быстрый',
      '🚀',
      '🐢',
      '..',
      '.',
      'A',
      'a',
      'a!',
      'report.json',
      'x'.repeat(300),
      'é',
    ];
    const folders = [...folderNames([...names, `${'x'.repeat(300)}y`]).values()];
    expect(new Set(folders).size).to.equal(folders.length);
    for (const folder of folders) {
      expect(folder).to.match(/^[\p{L}\p{N}]/u);
      expect(folder).to.not.match(/[/\\:]/);
      expect(Buffer.byteLength(folder)).to.be.below(256);
    }
    expect(folders.slice(0, 3)).to.deep.equal(['高速', '低速', 'быстрый']);
    expect(folderNames(['static', 'dynamic nodes=8']).get('dynamic nodes=8')).to.equal('dynamic-nodes-8');
    expect(folders).to.not.include('report.json');
  });

  it('reads sweeps', () => {
    expect(parseSweep('nodes=1,2,4')).to.deep.equal({ parameter: 'nodes', values: ['1', '2', '4'] });
    for (const text of ['nodes', 'nodes=', 'nodes=1,1', 'threads=1,2'])
      expect(() => parseSweep(text)).to.throw(UsageError);
  });
});
