import { createAcceptance } from '../decoding/acceptance.js';
import { decode } from '../decoding/decode.js';
import { prefill } from '../decoding/prefill.js';
import type { DecodeStatistics, DecodeStep, DraftingModel } from '../decoding/types.js';
import type { EngineFacts } from './facts.js';
import { NotFiniteError } from '../decoding/notFinite.js';
import { ContextError, UsageError } from '../util/errors.js';
import { explainNotFinite } from './notFiniteMessage.js';
import { openEngineParts, type EngineParts } from './open.js';
import { checkPromptKind } from './options/check.js';
import type { ResolvedDecodingOptions } from './options/decodingOptions.js';
import { checkEngineOptions, type EngineOptions } from './options/engineOptions.js';
import {
  checkForget,
  checkGenerateOptions,
  type GenerateOptions,
  type PromptOptions,
} from './options/generateOptions.js';
import { resolveDecodingOptions } from './options/resolve.js';
import { DraftMemories } from './draftMemories.js';
import { PolicyMaker } from './policies.js';
import { StopStrings } from './text/stopStrings.js';
import { TextStream } from './text/textStream.js';
import type { Tokenizer } from './text/tokenizer.js';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** Text that is final: complete characters, and not the beginning of a stop string. */
export interface TextChunk {
  readonly kind: 'text';
  readonly text: string;
}

/** The last thing `generate` yields. */
export interface EndChunk {
  readonly kind: 'end';
  readonly result: GenerationResult;
}

export type GenerationChunk = TextChunk | EndChunk;

export interface GenerationResult {
  readonly text: string;
  /** New token ids, EOS or the token completing a stop string included. */
  readonly tokenIds: readonly number[];
  readonly promptTokenIds: readonly number[];
  readonly statistics: DecodeStatistics;
  /** The options with defaults filled in. */
  readonly options: ResolvedDecodingOptions;
  /** Milliseconds from the call to the first text. */
  readonly timeToFirstToken: number;
}

/**
 * Text in, streamed text out: tokenizer, model and decode loop put together.
 *
 * One generation at a time: a call while another generation goes on is an error, not a queue. A generation goes on until its
 * last chunk was read or its generator's `return()` was called (as leaving a `for await` does). The KV cache of the last
 * one is reused as far as the next prompt begins alike.
 */
export class MedusaEngine implements AsyncDisposable {
  private openFacts: EngineFacts;
  /** Undefined once the engine was disposed: nothing then holds the model's memory. */
  private opened: OpenEngine | undefined;
  /** The tokens whose positions are cached. */
  private cachedTokens: readonly number[] = [];
  private isBusy = false;

  private constructor(parts: EngineParts) {
    this.openFacts = parts.facts;
    const memories = new DraftMemories(parts.memory);
    this.opened = { parts, model: parts.model, policies: new PolicyMaker(parts), memories };
  }

  /**
   * Opens a model: the default one (prepared first, if need be) unless another is named.
   *
   * @throws ModelError when the model is missing or damaged
   * @throws UsageError for options that do not fit the model
   * @throws RuntimeFailure when ONNX Runtime cannot run it
   */
  static async open(options: EngineOptions = {}): Promise<MedusaEngine> {
    checkEngineOptions(options);
    return new MedusaEngine(await openEngineParts(options));
  }

  get facts(): EngineFacts {
    return this.openFacts;
  }

  /** @throws UsageError once the engine was disposed */
  get tokenizer(): Tokenizer {
    return this.open.parts.tokenizer;
  }

  /**
   * Yields text as it becomes final, then one `end` chunk. An abort is an end (finish reason `aborted`), not an
   * exception.
   *
   * @throws UsageError for an empty prompt, wrong options, or while another generation goes on
   * @throws ContextError for a prompt that does not fit
   * @throws ModelError when the backbone or the heads give no finite numbers
   */
  async *generate(
    prompt: string | readonly Message[],
    options: GenerateOptions = {},
  ): AsyncGenerator<GenerationChunk, void, void> {
    checkGenerateOptions(options);
    const resolved = resolveDecodingOptions(options, this.facts);
    const promptTokenIds = this.encodePrompt(prompt, options);
    this.checkFits(promptTokenIds.length, resolved.maxNewTokens);
    const outcome = yield* this.decode(promptTokenIds, resolved, options);
    yield { kind: 'end', result: { ...outcome, promptTokenIds, options: resolved } };
  }

  /** The same without streaming. */
  async complete(
    prompt: string | readonly Message[],
    options: GenerateOptions = {},
  ): Promise<GenerationResult> {
    for await (const chunk of this.generate(prompt, options)) {
      if (chunk.kind === 'end') return chunk.result;
    }
    throw new Error('The generation ended without a result.');
  }

  /** The token ids of a prompt, as `generate` gives them to the model. */
  encodePrompt(prompt: string | readonly Message[], options: PromptOptions = {}): number[] {
    checkPromptKind(prompt);
    const ids = options.raw ? this.encodeRaw(prompt, options) : this.encodeChat(prompt, options);
    if (ids.length === 0) throw new UsageError('The prompt is empty. Give some text to go on from.');
    return ids;
  }

  /** Next-token logits after `ids`, computed from nothing: for looking into a generation, not for making one. */
  async nextLogits(ids: readonly number[]): Promise<Float32Array> {
    const { model } = this.open;
    this.begin();
    try {
      model.truncate(0);
      return (await prefill(model, ids, { logits: true }))!.logits!;
    } catch (error) {
      throw this.explained(error);
    } finally {
      this.isBusy = false;
    }
  }

  /**
   * Forgets the cached positions, so that the next prompt is computed from its start, and what drafts learnt from the texts so
   * far: of one user, or of all calls (with a `memory` file what it held, too).
   *
   * @param what the name of a user, or options: `drafts: false` keeps what drafts learnt
   * @throws UsageError for an empty name, and for other options
   */
  forget(what: string | { drafts?: boolean } = {}): void {
    checkForget(what);
    this.cachedTokens = [];
    if (typeof what === 'string') this.opened?.memories.forgetUser(what);
    else if (what.drafts !== false) this.opened?.memories.forget();
  }

  /**
   * Frees the model, after the step that is running, and writes the `memory` file. The engine cannot be used afterwards;
   * disposing again does nothing.
   */
  async dispose(): Promise<void> {
    const { opened } = this;
    this.opened = undefined;
    this.cachedTokens = [];
    await opened?.policies.dispose();
    await opened?.model.dispose();
    const stored = opened?.memories.stored;
    if (stored) await opened.parts.saveMemory?.(stored);
  }

  /** `await using engine = await MedusaEngine.open();` */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  private get open(): OpenEngine {
    if (this.opened !== undefined) return this.opened;
    throw new UsageError(
      `This engine (model ${this.facts.model}) was disposed. Open another one: MedusaEngine.open().`,
    );
  }

  /** Runs the decode loop and turns its steps into text. */
  private async *decode(
    promptTokenIds: readonly number[],
    resolved: ResolvedDecodingOptions,
    { signal, onStep, onPrompt, user = '' }: GenerateOptions,
  ): AsyncGenerator<TextChunk, Omit<GenerationResult, 'promptTokenIds' | 'options'>, void> {
    const { model, policies, parts, memories } = this.open;
    const policy = await policies.make(resolved, memories.of(user));
    const start = performance.now();
    const stream = new TextStream(parts.tokenizer, resolved.stop);
    const cachedTokens = this.begin();
    const texts: string[] = [];
    let timeToFirstToken = 0;
    try {
      await this.followLoad();
      const steps = decode(model, promptTokenIds, {
        policy,
        acceptance: createAcceptance({
          name: resolved.acceptance,
          temperature: resolved.temperature,
          topP: resolved.acceptance === 'nucleus' ? resolved.topP : undefined,
          seed: resolved.seed,
        }),
        maxNewTokens: resolved.maxNewTokens,
        eosTokenIds: resolved.ignoreEos ? [] : parts.eosTokenIds,
        stopping: resolved.stop.length > 0 ? new StopStrings(parts.tokenizer, resolved.stop) : undefined,
        cachedTokens,
        clock: () => performance.now(),
        signal,
        onPrompt,
      });
      // Not for await: the loop's return value is wanted.
      let next = await steps.next();
      for (; !next.done; next = await steps.next()) {
        if (next.value.index === 0) timeToFirstToken = performance.now() - start;
        onStep?.(next.value);
        const text = stream.push(textTokens(next.value));
        texts.push(text);
        if (text !== '') yield { kind: 'text', text };
        if (next.value.finishReason === undefined) await this.followLoad();
      }
      const { tokens, cachedTokens: nowCached, ...statistics } = next.value;
      this.cachedTokens = nowCached;
      const rest = stream.end();
      texts.push(rest);
      if (rest !== '') yield { kind: 'text', text: rest };
      return { text: texts.join(''), tokenIds: tokens, statistics, timeToFirstToken };
    } catch (error) {
      throw this.explained(error);
    } finally {
      this.isBusy = false;
    }
  }

  /** Gives up threads to other programs, or takes them back. Between steps: no call to the model is under way. */
  private async followLoad(): Promise<void> {
    const { threads } = this.open.parts;
    if (!threads) return;
    await threads.follow();
    if (threads.now !== this.facts.threads) this.openFacts = { ...this.facts, threads: threads.now };
  }

  /** An error of a generation, in words that name what the caller knows of. */
  private explained(error: unknown): unknown {
    if (error instanceof NotFiniteError) return explainNotFinite(error, this.facts);
    if (this.opened !== undefined) return error;
    return new UsageError(
      `This engine (model ${this.facts.model}) was disposed during a generation: end that first (abort it, or return()).`,
      { cause: error },
    );
  }

  /**
   * Marks the engine as busy and hands out the tokens that are cached. They are forgotten until the generation ends:
   * one that is left early leaves a cache whose tokens are not known here.
   */
  private begin(): readonly number[] {
    if (this.isBusy) {
      throw new UsageError(
        `The engine (model ${this.facts.model}) is generating already. Read that generation to its end, leave it with ` +
          'return(), or open a second engine.',
      );
    }
    this.isBusy = true;
    const { cachedTokens } = this;
    this.cachedTokens = [];
    return cachedTokens;
  }

  private encodeRaw(prompt: string | readonly Message[], { system, thinking }: PromptOptions): number[] {
    if (typeof prompt !== 'string' || system !== undefined) {
      throw new UsageError('A raw prompt is one string; messages need the chat template.');
    }
    if (thinking !== undefined) {
      throw new UsageError('thinking is about the chat template, which raw leaves out. Give one of the two.');
    }
    const ids = this.tokenizer.encode([{ kind: 'control', text: prompt }]);
    const { bosTokenId, addBos } = this.open.parts;
    return addBos && ids.length > 0 && ids[0] !== bosTokenId && bosTokenId !== undefined
      ? [bosTokenId, ...ids]
      : ids;
  }

  private encodeChat(prompt: string | readonly Message[], { system, thinking }: PromptOptions): number[] {
    const messages = typeof prompt === 'string' ? [{ role: 'user' as const, content: prompt }] : prompt;
    if (messages.length === 0 || messages.at(-1)!.content.trim() === '') {
      throw new UsageError('The prompt is empty. Give some text to answer.');
    }
    const all = system === undefined ? messages : [{ role: 'system' as const, content: system }, ...messages];
    const controlTexts = this.tokenizer.specialTokens.map((token) => token.content);
    const choice = { thinking: thinking && thinking === 'on' };
    const { chatTemplate, noteTemplate } = this.open.parts;
    noteTemplate?.();
    return this.tokenizer.encode(chatTemplate.render(all, controlTexts, choice));
  }

  private checkFits(promptTokens: number, maxNewTokens: number): void {
    const { contextLength, model } = this.facts;
    if (promptTokens < contextLength) return;
    throw new ContextError(
      `The prompt has ${promptTokens} tokens and up to ${maxNewTokens} new ones were asked for, but the context of ` +
        `model ${model} holds ${contextLength}. A prompt of at most ${contextLength - 1} tokens fits ` +
        `(${Math.max(1, contextLength - maxNewTokens)} with room for ${maxNewTokens} new ones): shorten it.`,
    );
  }
}

/** The tokens of a step that are text: all but an EOS, which some tokenizers could write out. */
function textTokens({ tokens, finishReason }: DecodeStep): readonly number[] {
  return finishReason === 'eos' ? tokens.slice(0, -1) : tokens;
}

interface OpenEngine {
  readonly parts: EngineParts;
  readonly model: DraftingModel;
  readonly policies: PolicyMaker;
  readonly memories: DraftMemories;
}
