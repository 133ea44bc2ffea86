import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../errors.js';
import { prepareAgain, type Manifest } from '../model/manifest.js';
import { ChatTemplate } from './chatTemplate.js';
import { Tokenizer } from './tokenizer.js';

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
}

/** Loads a model's tokenizer, after checking that it is the one the model was exported with. */
export async function loadTokenizer(folder: string, manifest: Manifest): Promise<LoadedTokenizer> {
  const { file, config, sha256 } = manifest.tokenizer;
  const [tokenizerText, configText] = await Promise.all([readText(folder, file), readText(folder, config)]);
  const found = createHash('sha256').update(tokenizerText).digest('hex');
  if (found !== sha256) {
    throw new ModelError(
      `${join(folder, file)} is not the tokenizer this model was exported with: its manifest says sha256 ${sha256}, ` +
        `the file has ${found}. ${prepareAgain(folder)}`,
    );
  }
  const parsedConfig = parse(configText, join(folder, config), folder);
  const tokenizer = new Tokenizer({
    tokenizer: parse(tokenizerText, join(folder, file), folder),
    config: parsedConfig,
  });
  if (tokenizer.vocabSize > manifest.model.vocabSize) {
    throw new ModelError(
      `${join(folder, file)} has ${tokenizer.vocabSize} tokens, model ${manifest.model.id} only ` +
        `${manifest.model.vocabSize}: it is another model's tokenizer. ${prepareAgain(folder)}`,
    );
  }
  return { tokenizer, chatTemplate: new ChatTemplate(parsedConfig) };
}

async function readText(folder: string, file: string): Promise<string> {
  try {
    return await readFile(join(folder, file), 'utf8');
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'is missing' : `cannot be read (${String(error)})`;
    throw new ModelError(`${join(folder, file)} ${why}. ${prepareAgain(folder)}`, undefined, {
      cause: error,
    });
  }
}

function parse(text: string, file: string, folder: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Reported below, like a value that is no object.
  }
  throw new ModelError(`${file} is not a JSON object. ${prepareAgain(folder)}`);
}
