import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ChatTemplate } from '../../src/tokenizer/chatTemplate.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';

/** The committed random model: 2 layers, 512 tokens, 4 heads. */
export const tinyFolder = fileURLToPath(new URL('../fixtures/tiny', import.meta.url));

/** A temporary folder; removed by `remove`. */
export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'medusa-plus-test-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** A copy of the tiny model that a test may damage. */
export async function copyTiny(parent: string, name = 'tiny'): Promise<string> {
  const folder = join(parent, name);
  await cp(tinyFolder, folder, { recursive: true });
  return folder;
}

export async function readJson(file: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
}

/** Tokenizer and chat template of a model folder. */
export async function tokenizerOf(
  folder: string,
): Promise<{ tokenizer: Tokenizer; chatTemplate: ChatTemplate }> {
  const config = await readJson(join(folder, 'tokenizer_config.json'));
  const tokenizer = new Tokenizer({ tokenizer: await readJson(join(folder, 'tokenizer.json')), config });
  return { tokenizer, chatTemplate: new ChatTemplate(config) };
}
