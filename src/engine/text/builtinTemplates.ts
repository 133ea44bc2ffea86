import { isUtf8 } from 'node:buffer';
import { UsageError } from '../../util/errors.js';

/** Of a system message at the beginning and the turns after it. */
const split = `
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] -%}
{% else %}{% set turns = messages %}{% endif -%}`;

/** Of a tokenizer that has none of these tokens they are empty. */
const tokens = "{% set bos = bos_token or '' %}{% set eos = eos_token or '' %}";

const vicunaSystem =
  'A chat between a curious user and an artificial intelligence assistant. ' +
  "The assistant gives helpful, detailed, and polite answers to the user's questions.";

/**
 * Chat templates for models that bring none. Each writes what the models of its kind were trained on: tokens, separators and
 * Vicuna's system message are those of FastChat (conversation.py) and of the models' owners.
 */
export const builtinTemplates: Readonly<Record<string, string>> = {
  'vicuna_v1.1': `${tokens}{% set system = ${JSON.stringify(vicunaSystem)} %}${split}
{{- bos + system + ' ' }}
{%- for turn in turns -%}
{{ 'USER: ' + turn['content'] + ' ' if turn['role'] == 'user' else 'ASSISTANT: ' + turn['content'] + eos }}
{%- endfor -%}
{{ 'ASSISTANT:' if add_generation_prompt else '' }}`,

  'llama-2': `${tokens}{% set system = '' %}${split}
{%- for turn in turns -%}
{%- set opening = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first and system != '' else '' -%}
{%- if turn['role'] == 'user' -%}{{ bos + '[INST] ' + (opening + turn['content']).strip() + ' [/INST]' }}
{%- else -%}{{ ' ' + turn['content'].strip() + ' ' + eos }}{%- endif -%}
{%- endfor -%}`,

  chatml: `{% for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}`,

  zephyr: `${tokens}{% for message in messages -%}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos + '\\n' }}
{%- endfor -%}
{{ '<|assistant|>\\n' if add_generation_prompt else '' }}`,

  mistral: `${tokens}{% set system = '' %}${split}
{{- bos }}
{%- for turn in turns -%}
{%- set opening = system + '\\n\\n' if loop.first and system != '' else '' -%}
{{ '[INST] ' + opening + turn['content'] + ' [/INST]' if turn['role'] == 'user' else ' ' + turn['content'] + eos }}
{%- endfor -%}`,
};

const names = Object.keys(builtinTemplates).join(', ');

/** What to do about a model that has no template. */
export const templateAdvice = `Name one with --chat-template (${names}, or a file), or give the prompt as it stands with --raw.`;

/** Largest file that is read as a template, in bytes. */
const mostBytes = 100_000;

/**
 * The text of a chat template.
 *
 * @param given one of the names above, or the name of a file (Jinja)
 * @throws UsageError for a file that is missing, too large, no regular file, or no text
 */
export async function chatTemplateText(given: string): Promise<string> {
  const builtin = Object.hasOwn(builtinTemplates, given) ? builtinTemplates[given] : undefined;
  if (builtin !== undefined) return builtin;
  const { readRegularFile } = await import('../../util/regularFile.js');
  const bytes = await readRegularFile(given).catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(
      `--chat-template ${given} is none of ${names}, and no file that can be read (${cause.code ?? cause.message}).`,
      { cause },
    );
  });
  const text = bytes.toString('utf8');
  if (!isUtf8(bytes) || text.includes('\0')) {
    throw new UsageError(`--chat-template ${given} is no text file: a template is Jinja in UTF-8.`);
  }
  if (text.trim() !== '' && bytes.length <= mostBytes) return text;
  throw new UsageError(`--chat-template ${given} is empty, or larger than ${mostBytes} bytes.`);
}

/** The name of the built-in template with this text; undefined for others. */
export const builtinNameOf = (text: unknown): string | undefined =>
  Object.keys(builtinTemplates).find((name) => builtinTemplates[name] === text);

/** The built-in template that a model without one is known to need; undefined for none. */
export const impliedTemplate = (...modelNames: readonly string[]): string | undefined =>
  modelNames.some((name) => /vicuna/i.test(name)) ? 'vicuna_v1.1' : undefined;
