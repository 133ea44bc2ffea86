import { expect } from 'chai';
import { join } from 'node:path';
import { MedusaEngine, type DecodeStep, type GenerationChunk, type Message } from '../../src/index.js';
import { ContextError, UsageError } from '../../src/util/errors.js';
import { copyTiny, readJson, temporaryFolder, tinyFolder, writeManifest } from '../support/tinyModel.js';

describe('MedusaEngine', function () {
  this.timeout(60_000);

  let engine: MedusaEngine;
  before(async () => {
    engine = await MedusaEngine.open({ model: tinyFolder, threads: 1 });
  });
  after(() => engine.dispose());

  const collect = async (chunks: AsyncIterable<GenerationChunk>): Promise<GenerationChunk[]> => {
    const all: GenerationChunk[] = [];
    for await (const chunk of chunks) all.push(chunk);
    return all;
  };
  const rejection = async (promise: Promise<unknown>): Promise<Error> =>
    promise.then(
      () => expect.fail('did not throw'),
      (error: Error) => error,
    );

  it('says what is open', () => {
    expect(engine.facts).to.include({
      model: 'tiny',
      provider: 'cpu',
      heads: 'tiny',
      headCount: 4,
      threads: 1,
    });
    expect(engine.facts.contextLength).to.equal(512);
  });

  it('yields text, then one end with the whole result', async () => {
    const chunks = await collect(engine.generate('Hi', { maxNewTokens: 30 }));
    const end = chunks.pop()!;
    expect(chunks.every((chunk) => chunk.kind === 'text' && chunk.text !== '')).to.equal(true);
    if (end.kind !== 'end') throw new Error('no end');
    expect(end.result.text).to.equal(chunks.map((chunk) => (chunk as { text: string }).text).join(''));
    expect(end.result.text).to.equal(engine.tokenizer.decode(end.result.tokenIds));
    expect(end.result.tokenIds).to.have.length(30);
    expect(end.result.timeToFirstToken).to.be.above(0);
  });

  it('reports each step', async () => {
    const steps: DecodeStep[] = [];
    const result = await engine.complete('Hi', {
      maxNewTokens: 15,
      nodes: 6,
      onStep: (step) => steps.push(step),
    });
    expect(steps[0].index).to.equal(0);
    expect(steps[0].tree).to.equal(undefined);
    expect(steps[1].tree!.size).to.equal(6);
    expect(steps.flatMap((step) => step.tokens)).to.deep.equal(result.tokenIds);
  });

  it('reuses the cache of a conversation and gives the tokens of a fresh start', async () => {
    const first: Message[] = [{ role: 'user', content: 'Hi' }];
    engine.forget();
    const { text, statistics } = await engine.complete(first, { maxNewTokens: 12 });
    expect(statistics.cachedPromptTokens).to.equal(0);
    const second: Message[] = [
      ...first,
      { role: 'assistant', content: text },
      { role: 'user', content: 'And?' },
    ];
    const warm = await engine.complete(second, { maxNewTokens: 12 });
    expect(warm.statistics.cachedPromptTokens).to.be.at.least(statistics.promptTokens - 1);
    engine.forget();
    const cold = await engine.complete(second, { maxNewTokens: 12 });
    expect(cold.statistics.cachedPromptTokens).to.equal(0);
    expect(warm.tokenIds).to.deep.equal(cold.tokenIds);
  });

  it('is right after a generation that its reader left early', async () => {
    const whole = await engine.complete('Hello there', { maxNewTokens: 20 });
    for await (const chunk of engine.generate('Hello there', { maxNewTokens: 20 })) {
      if (chunk.kind === 'text') break;
    }
    const again = await engine.complete('Hello there', { maxNewTokens: 20 });
    expect(again.tokenIds).to.deep.equal(whole.tokenIds);
  });

  it('ends as aborted when the signal says so, and can go on afterwards', async () => {
    const controller = new AbortController();
    const result = await engine.complete('Hi', {
      maxNewTokens: 100,
      tree: 'none',
      signal: controller.signal,
      onStep: ({ index }) => index === 5 && controller.abort(),
    });
    expect(result.statistics.finishReason).to.equal('aborted');
    expect(result.tokenIds).to.have.length(6);
    const aborted = await engine.complete('Hi', { signal: AbortSignal.abort() });
    expect(aborted.tokenIds).to.have.length(0);
    expect((await engine.complete('Hi', { maxNewTokens: 3 })).tokenIds).to.have.length(3);
  });

  it('cuts the tokens at the one that completes a stop string, the text before it', async () => {
    const whole = await engine.complete('Hi', { maxNewTokens: 30 });
    const stop = whole.text.slice(7, 12);
    const cut = await engine.complete('Hi', { maxNewTokens: 30, stop: [stop] });
    expect(cut.text).to.equal(whole.text.slice(0, whole.text.indexOf(stop)));
    expect(cut.statistics.finishReason).to.equal('stop');
    expect(cut.tokenIds).to.deep.equal(whole.tokenIds.slice(0, cut.tokenIds.length));
    const { tokenizer } = engine;
    expect(tokenizer.decode(cut.tokenIds)).to.contain(stop);
    expect(tokenizer.decode(cut.tokenIds.slice(0, -1))).to.not.contain(stop);
  });

  it('ends with an EOS token, whose text is not part of the answer', async () => {
    const whole = await engine.complete('Hi', { maxNewTokens: 30 });
    const eos = whole.tokenIds[5];
    const folder = await temporaryFolder();
    try {
      const model = await copyTiny(folder.path);
      const manifest = (await readJson(join(model, 'manifest.json'))) as { tokenizer: object };
      await writeManifest(model, { ...manifest, tokenizer: { ...manifest.tokenizer, eos_token_ids: [eos] } });
      await using other = await MedusaEngine.open({ model, threads: 1 });
      const { text, tokenIds, statistics } = await other.complete('Hi', { maxNewTokens: 30 });
      expect(statistics.finishReason).to.equal('eos');
      expect(tokenIds).to.deep.equal(whole.tokenIds.slice(0, whole.tokenIds.indexOf(eos) + 1));
      expect(engine.tokenizer.decode([eos])).to.not.equal('');
      expect(text).to.equal(engine.tokenizer.decode(tokenIds.slice(0, -1)));
    } finally {
      await folder.remove();
    }
  });

  it('gives the model a raw prompt as it stands, control tokens and all', () => {
    const raw = engine.encodePrompt('<|im_start|>user', { raw: true });
    expect(raw[0]).to.equal(1);
    const chat = engine.encodePrompt('<|im_start|>user');
    expect(chat.filter((id) => id === 1)).to.have.length(
      engine.encodePrompt('x').filter((id) => id === 1).length,
    );
  });

  it('puts the system message first', () => {
    const withSystem = engine.tokenizer.decode(engine.encodePrompt('Hi', { system: 'Be kind.' }));
    expect(withSystem).to.match(/^system\nBe kind\.\nuser\nHi/);
  });

  it('runs to the end of the context and says so', async () => {
    let text = 'word';
    while (engine.encodePrompt(text, { raw: true }).length < 500) text += ' word';
    const result = await engine.complete(text, { raw: true, maxNewTokens: 100 });
    expect(result.statistics.finishReason).to.equal('context');
    expect(result.promptTokenIds.length + result.tokenIds.length).to.equal(513);
  });

  it('refuses prompts that are empty or too long', async () => {
    expect(await rejection(engine.complete(''))).to.be.instanceOf(UsageError);
    expect(await rejection(engine.complete([]))).to.be.instanceOf(UsageError);
    expect(await rejection(engine.complete('', { raw: true }))).to.be.instanceOf(UsageError);
    const error = await rejection(engine.complete('word '.repeat(600)));
    expect(error).to.be.instanceOf(ContextError);
    expect(error.message).to.match(/\d+ tokens.*512.*511/);
  });

  it('refuses wrong options by name', async () => {
    for (const [options, name] of [
      [{ nodes: NaN }, 'nodes'],
      [{ temperature: -1 }, 'temperature'],
      [{ maxNewTokens: 1.5 }, 'maxNewTokens'],
      [{ headsUsed: 9 }, 'headsUsed'],
      [{ tree: 'oak' as never }, 'tree'],
      [{ stop: [''] }, 'stop'],
    ] as const) {
      const error = await rejection(engine.complete('Hi', options));
      expect(error).to.be.instanceOf(UsageError);
      expect(error.message).to.contain(name);
    }
  });

  it('refuses a second generation while one is running', async () => {
    const running = engine.generate('Hi', { maxNewTokens: 20 });
    await running.next();
    expect((await rejection(engine.complete('Hi'))).message).to.contain('generating already');
    await running.return();
    expect((await engine.complete('Hi', { maxNewTokens: 2 })).tokenIds).to.have.length(2);
  });

  it('is free again after return() on a generation that was begun', async () => {
    for (let round = 0; round < 2; round++) {
      const left = engine.generate('Hi', { maxNewTokens: 20 });
      const next = left.next();
      await left.return();
      await next;
    }
    const unread = engine.generate('Hi');
    await unread.return();
    expect((await engine.complete('Hi', { maxNewTokens: 2 })).tokenIds).to.have.length(2);
  });

  it('says what is wrong with arguments of other types', async () => {
    for (const [prompt, options, words] of [
      [undefined, {}, ['prompt', 'undefined']],
      [5, {}, ['prompt', '5']],
      [{ role: 'user', content: 'x' }, {}, ['list of messages']],
      [[null], {}, ['Message 0', 'null']],
      [[{ role: 'user' }], {}, ['Message 0', 'content']],
      [[{ role: 'user', content: [{ type: 'text', text: 'x' }] }], {}, ['Message 0', 'Content parts']],
      ['Hi', { stop: 'x' }, ['stop', 'list', '"x"']],
      ['Hi', { stop: [5] }, ['stop']],
      ['Hi', { system: 5 }, ['system', '5']],
      ['Hi', { raw: 'no' }, ['raw', 'no']],
      ['Hi', { raw: true, thinking: 'off' }, ['thinking', 'raw']],
      ['Hi', { signal: {} }, ['signal', 'AbortSignal']],
      ['Hi', { onStep: 1 }, ['onStep', 'function']],
      ['Hi', null, ['options', 'null']],
    ] as const) {
      const error = await rejection(engine.complete(prompt as never, options as never));
      expect(error, JSON.stringify([prompt, options])).to.be.instanceOf(UsageError);
      for (const word of words) expect(error.message).to.contain(word);
    }
    for (const options of [{ model: 5 }, { report: {} }, { prepare: 'no' }, 'tiny']) {
      expect(await rejection(MedusaEngine.open(options as never))).to.be.instanceOf(UsageError);
    }
  });

  it('tells how far a long prompt has been read', async () => {
    const seen: [number, number][] = [];
    engine.forget();
    const result = await engine.complete('word '.repeat(60), {
      maxNewTokens: 1,
      onPrompt: (done, of) => seen.push([done, of]),
    });
    const { promptTokens } = result.statistics;
    expect(seen.at(-1)).to.deep.equal([promptTokens, promptTokens]);
  });

  it('names itself once it was disposed, also in the midst of a generation', async () => {
    let running: AsyncGenerator<GenerationChunk>;
    {
      const other = await MedusaEngine.open({ model: tinyFolder, threads: 1 });
      running = other.generate('Hi', { maxNewTokens: 50 });
      await running.next();
      await other[Symbol.asyncDispose]();
      await other.dispose();
      for (const use of [
        () => other.complete('Hi'),
        () => other.nextLogits([1]),
        () => other.encodePrompt('Hi'),
        () => other.tokenizer,
      ]) {
        const error = await rejection(Promise.resolve().then<unknown>(use));
        expect(error).to.be.instanceOf(UsageError);
        expect(error.message).to.contain('This engine (model tiny) was disposed');
      }
    }
    const error = await rejection(collect(running));
    expect(error).to.be.instanceOf(UsageError);
    expect(error.message).to.contain('disposed during a generation');
  });

  it('drafts without heads what is not from heads', async () => {
    const plain = await MedusaEngine.open({ model: tinyFolder, heads: 'none', threads: 1 });
    try {
      const result = await plain.complete('Hi', { maxNewTokens: 10 });
      expect(result.options).to.deep.include({ tree: 'dynamic', draft: ['recycle', 'lookup'], headsUsed: 0 });
      expect(result.tokenIds).to.deep.equal((await engine.complete('Hi', { maxNewTokens: 10 })).tokenIds);
    } finally {
      await plain.dispose();
    }
  });
});
