import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { MedusaError, ModelError } from '../../util/errors.js';
import { changedFile } from '../../models/fileHashes.js';
import { count, flag, list, object, optional, readJson, text, type Schema } from '../../util/json.js';
import type { Manifest } from '../../models/manifestSchema.js';
import { prepareAgain } from '../../models/prepareCommand.js';
import { sha256OfText } from '../../util/sha256.js';
import { chatTemplateText, impliedTemplate } from './builtinTemplates.js';
import { ChatTemplate } from './chatTemplate.js';
import { Tokenizer } from './tokenizer.js';

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
  /** The template that was taken in place of one of the model's own: as it was given, or a built-in one by its name. */
  readonly template: string | undefined;
}

/**
 * Loads a model's tokenizer, after checking that it is the one the model was exported with.
 *
 * @param template chat template to take: a built-in one's name, or a file
 */
export async function loadTokenizer(
  folder: string,
  manifest: Manifest,
  template?: string,
): Promise<LoadedTokenizer> {
  const { file, config, sha256, configSha256 } = manifest.tokenizer;
  const [tokenizerJson, configJson] = await Promise.all([
    readChecked(folder, file, sha256, tokenizerSchema),
    readChecked(folder, config, configSha256, configSchema),
  ]);
  const files = { tokenizer: tokenizerJson, config: configJson };
  const tokenizer = read(join(folder, file), folder, () => new Tokenizer(files));
  if (tokenizer.vocabSize > manifest.model.vocabSize) {
    throw new ModelError(
      `${join(folder, file)} has ${tokenizer.vocabSize} tokens, model ${manifest.model.id} only ` +
        `${manifest.model.vocabSize}: it is another model's tokenizer. ${prepareAgain(folder)}`,
    );
  }
  const hasOwn = (configJson.chat_template ?? '').length > 0;
  const other = template ?? (hasOwn ? undefined : impliedTemplate(manifest.model.id, manifest.source.name));
  const replaced = other === undefined ? {} : { chat_template: await chatTemplateText(other) };
  return { tokenizer, chatTemplate: new ChatTemplate({ ...configJson, ...replaced }), template: other };
}

/** What is read here of tokenizer.json; the rest is the library's affair. */
const tokenizerSchema = object({
  added_tokens: optional(
    list(
      object({
        id: count(0),
        content: text,
        special: optional(flag),
        lstrip: optional(flag),
        rstrip: optional(flag),
        single_word: optional(flag),
        normalized: optional(flag),
      }),
    ),
  ),
  model: object({}),
});

/** What is read here of tokenizer_config.json. */
const configSchema = object({
  chat_template: optional(
    v.union(
      [v.string(), v.array(object({ name: text, template: text }))],
      'a text, or a list of named texts',
    ),
  ),
});

/** What the library throws at a file of an unknown form says little: the file is named. */
function read<T>(path: string, folder: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (cause instanceof MedusaError) throw cause;
    const why = (cause as Error).message;
    throw new ModelError(
      `${path} is no tokenizer that can be used (${why}). ${prepareAgain(folder)}`,
      undefined,
      {
        cause,
      },
    );
  }
}

/** The JSON value in a file, once its bytes were found to be those of the manifest. */
async function readChecked<T>(
  folder: string,
  file: string,
  sha256: string | undefined,
  schema: Schema<T>,
): Promise<T> {
  const path = join(folder, file);
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'is missing' : `cannot be read (${String(cause)})`;
    throw new ModelError(`${path} ${why}. ${prepareAgain(folder)}`, undefined, { cause });
  }
  const found = sha256OfText(bytes);
  if (sha256 !== undefined && found !== sha256) throw changedFile(folder, file, sha256, found);
  return readJson(schema, bytes.toString('utf8'), path, prepareAgain(folder));
}
