import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../errors.js';
import { changedFile } from '../model/fileHashes.js';
import { JsonReader } from '../model/jsonReader.js';
import { prepareAgain, type Manifest } from '../model/manifest.js';
import { sha256OfText } from '../model/sha256.js';
import { ChatTemplate } from './chatTemplate.js';
import { Tokenizer } from './tokenizer.js';

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
}

/** Loads a model's tokenizer, after checking that it is the one the model was exported with. */
export async function loadTokenizer(folder: string, manifest: Manifest): Promise<LoadedTokenizer> {
  const { file, config, sha256, configSha256 } = manifest.tokenizer;
  const [tokenizerJson, configJson] = await Promise.all([
    readChecked(folder, file, sha256),
    readChecked(folder, config, configSha256),
  ]);
  const tokenizer = new Tokenizer({ tokenizer: tokenizerJson, config: configJson });
  if (tokenizer.vocabSize > manifest.model.vocabSize) {
    throw new ModelError(
      `${join(folder, file)} has ${tokenizer.vocabSize} tokens, model ${manifest.model.id} only ` +
        `${manifest.model.vocabSize}: it is another model's tokenizer. ${prepareAgain(folder)}`,
    );
  }
  return { tokenizer, chatTemplate: new ChatTemplate(configJson) };
}

/** The JSON object in a file, once its bytes were found to be those of the manifest. */
async function readChecked(folder: string, file: string, sha256: string | undefined): Promise<unknown> {
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
  return JsonReader.parse(bytes.toString('utf8'), path, prepareAgain(folder)).object();
}
