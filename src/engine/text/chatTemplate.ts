import { MedusaError, ModelError, UsageError } from '../../util/errors.js';
import { BoundedTemplate } from './boundedTemplate.js';
import { templateAdvice } from './builtinTemplates.js';
import type { Segment } from './tokenizer.js';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

interface NamedTemplate {
  name: string;
  template: string;
}

/** The parts of tokenizer_config.json that templates use. */
interface TokenizerConfig {
  chat_template?: string | NamedTemplate[];
  [name: string]: unknown;
}

/**
 * Noncharacters, which no text may contain, around the number of a message: they stand for its content while the
 * template is rendered, so that what the template wrote and what the user wrote can be told apart afterwards.
 */
const [open, close] = ['\uFDD1', '\uFDD2'];
const placeholder = new RegExp(`${open}(\\d+)${close}`);
const noncharacters = /[\uFDD0-\uFDEF]/g;

/** What templates are known to do to a content before they print it. */
const treatments: ((content: string) => string)[] = [
  (content) => content,
  (content) => content.trim(),
  (content) => content.trimEnd(),
  (content) => content.trimStart(),
];

type Variables = Readonly<Record<string, unknown>>;

/** The chat template of a model (Jinja, from tokenizer_config.json). */
export class ChatTemplate {
  private readonly template: BoundedTemplate | undefined;
  private readonly source: string;
  private readonly variables: Variables;

  constructor(config: unknown) {
    const { chat_template: given, ...rest } = config as TokenizerConfig;
    this.source = defaultOf(given) ?? '';
    this.template = compile(this.source);
    this.variables = namedTokens(rest);
  }

  get exists(): boolean {
    return this.template !== undefined;
  }

  /**
   * Renders `messages` up to where the answer begins. What the template wrote is control text, what the messages say
   * is plain text.
   *
   * Some templates change a content or look into it. When putting the contents in afterwards does not give what the
   * template gives for the contents themselves, the text is taken as one piece, which is safe as long as no content
   * holds the text of a control token (`controlTexts`); if one does, that is an error.
   */
  render(
    messages: readonly ChatMessage[],
    controlTexts: readonly string[],
    { thinking }: { thinking?: boolean } = {},
  ): Segment[] {
    const choice = thinking === undefined ? {} : this.choiceOf(thinking);
    const clean = messages.map((message) => ({
      role: message.role,
      content: message.content.replace(noncharacters, '\uFFFD'),
    }));
    const wanted = this.renderText(clean, choice);
    const marked = this.tryRenderText(
      clean.map(({ role }, i) => ({ role, content: `${open}${i}${close}` })),
      choice,
    );
    const contents = clean.map((message) => message.content);
    // The placeholders are nobody's text: where they change nothing, no text would.
    if (marked === wanted && clean.length > 0)
      throw new UsageError(`The chat template ${printsNothing}. ${templateAdvice}`);
    for (const treat of marked === undefined ? [] : treatments) {
      const segments = substitute(marked!, contents.map(treat));
      if (segments.map((segment) => segment.text).join('') === wanted) return segments;
    }
    refuseControlTexts(contents, controlTexts);
    return [{ kind: 'control', text: wanted }];
  }

  /** What a template that leaves the choice reads. */
  private choiceOf(thinking: boolean): Variables {
    if (this.source.includes('enable_thinking')) return { enable_thinking: thinking };
    throw new UsageError(
      `The model's chat template does not leave the choice of thinking (it reads no enable_thinking). Leave thinking (--thinking) out.`,
    );
  }

  private renderText(messages: readonly ChatMessage[], choice: Variables): string {
    if (this.template === undefined) {
      throw new UsageError(`This model has no chat template. ${templateAdvice}`);
    }
    try {
      return this.template.render({ ...this.variables, ...choice, add_generation_prompt: true }, messages);
    } catch (error) {
      if (error instanceof MedusaError) throw error;
      throw new UsageError(`The model's chat template refused the messages: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** A template that looks into the contents may refuse placeholders. */
  private tryRenderText(messages: readonly ChatMessage[], choice: Variables): string | undefined {
    try {
      return this.renderText(messages, choice);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      return undefined;
    }
  }
}

const printsNothing = 'prints nothing of the messages';

/**
 * Tries a template before a model is made with it.
 *
 * @param given as it was named, for messages
 * @throws UsageError when it cannot be parsed, refuses a message of the user, or leaves it out
 */
export function checkTemplate(given: string, text: string): void {
  const tokens = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' };
  let does = 'cannot be parsed';
  try {
    const template = new BoundedTemplate(text);
    does = 'refuses a message of the user';
    const [one, other] = ['Hi', 'Ho'].map((content) =>
      template.render({ ...tokens, add_generation_prompt: true }, [{ role: 'user', content }]),
    );
    does = 'is none';
    if (one === other) throw new Error(`it ${printsNothing}`);
  } catch (cause) {
    throw new UsageError(`--chat-template ${given} ${does}: ${(cause as Error).message}`, { cause });
  }
}

/** Odd parts of the split are message numbers. */
function substitute(marked: string, contents: readonly string[]): Segment[] {
  return marked
    .split(placeholder)
    .map((part, i): Segment =>
      i % 2 === 0 ? { kind: 'control', text: part } : { kind: 'plain', text: contents[Number(part)] },
    );
}

function refuseControlTexts(contents: readonly string[], controlTexts: readonly string[]): void {
  for (const content of contents) {
    const found = controlTexts.find((text) => content.includes(text));
    if (found !== undefined) {
      throw new UsageError(
        `The prompt contains ${JSON.stringify(found)}, a control token of this model, and its chat template changes ` +
          'the messages so that the two cannot be told apart. Take it out, or write the whole prompt yourself with --raw.',
      );
    }
  }
}

const defaultOf = (source: string | NamedTemplate[] | undefined): string | undefined =>
  Array.isArray(source) ? source.find(({ name }) => name === 'default')?.template : source;

function compile(text: string): BoundedTemplate | undefined {
  if (text === '') return undefined;
  try {
    return new BoundedTemplate(text);
  } catch (error) {
    throw new ModelError(
      `The model's chat template cannot be parsed: ${(error as Error).message}`,
      undefined,
      {
        cause: error,
      },
    );
  }
}

/** bos_token, eos_token, ... as strings; in the config they may be objects with a content. */
function namedTokens(config: Record<string, unknown>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    if (!name.endsWith('_token')) continue;
    const content =
      typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
    if (typeof content === 'string') tokens[name] = content;
  }
  return tokens;
}
