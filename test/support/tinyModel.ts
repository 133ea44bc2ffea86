import { createHash } from 'node:crypto';
import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRandom } from '../../src/decoding/random.js';
import { sha256Of } from '../../src/util/sha256.js';
import { ChatTemplate } from '../../src/engine/text/chatTemplate.js';
import { Tokenizer } from '../../src/engine/text/tokenizer.js';

/** The committed random model: 2 layers, 512 tokens, 4 heads. */
export const tinyFolder = fileURLToPath(new URL('../fixtures/tiny', import.meta.url));

/** Options of a command line that runs it, on a number of threads that need not be measured. */
export const onTiny: readonly string[] = ['--model', tinyFolder, '--threads', '1'];

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

/** Its heads and manifest as `python export/tests/tiny.py --reads-token` writes them; the other files are the same. */
export const tinyTokenFolder = fileURLToPath(new URL('../fixtures/tinytoken', import.meta.url));

/** A copy of the tiny model with heads that read the next tree's root. */
export async function copyTinyToken(parent: string): Promise<string> {
  const folder = await copyTiny(parent, 'tinytoken');
  await cp(tinyTokenFolder, folder, { recursive: true });
  return folder;
}

/** Writes a manifest that a test changed, without its seal: such a one is taken as it is. */
export async function writeManifest(folder: string, manifest: object): Promise<void> {
  const content = { ...manifest, manifest_sha256: undefined };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(content));
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

export interface TinyConditional {
  readonly rank?: number;
  readonly distances?: number;
  readonly activation?: 'none' | 'silu';
  /** Whether the int8 heads graph is to give contexts: they are its `top_probs`, so r must be the m that is used. */
  readonly context?: boolean;
}

export const conditionalName = 'heads.tiny.conditional.bin';

/**
 * Gives a copy of the tiny model a conditional table of random numbers for its first 256 tokens, in the file and the
 * manifest as docs/formats.md describes them.
 */
export async function addConditional(folder: string, options: TinyConditional = {}): Promise<void> {
  const { rank = 8, distances = 2, activation = 'none', context = false } = options;
  const [vocabSize, draftVocabSize] = [512, 256];
  const bytes = 4 * (draftVocabSize + (distances * vocabSize + draftVocabSize) * rank);
  const content = new DataView(new ArrayBuffer(bytes));
  const random = createRandom(5);
  for (let at = 0; at < bytes; at += 4) {
    if (at < 4 * draftVocabSize) content.setInt32(at, at / 4, true);
    else content.setFloat32(at, 4 * (random() - 0.5), true);
  }
  await writeFile(join(folder, conditionalName), content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const sizes = {
    rank,
    distances,
    activation,
    context,
    vocab_size: vocabSize,
    draft_vocab_size: draftVocabSize,
  };
  const manifest = (await readJson(join(folder, 'manifest.json'))) as {
    heads: {
      file: string;
      files: { file: string; bytes: number; sha256: string }[];
      conditional?: object;
    }[];
  };
  for (const heads of manifest.heads) {
    heads.conditional = { file: conditionalName, bytes, sha256, ...sizes };
    if (!context) continue;
    const graph = join(folder, heads.file);
    await appendFile(graph, contextOutput);
    const stored = heads.files.find(({ file }) => file === heads.file)!;
    stored.bytes += contextOutput.length;
    stored.sha256 = await sha256Of(graph);
  }
  await writeManifest(folder, manifest);
}

/**
 * What makes `context = Identity(top_probs)` an output of a heads graph when it is appended to its file: in protobuf,
 * a message that comes twice is merged, so this adds a node and an output to ModelProto.graph (field 7).
 */
export const contextOutput = message(7, [
  message(1, [text(1, 'top_probs'), text(2, 'context'), text(4, 'Identity')]),
  message(12, [text(1, 'context'), message(2, [message(1, [number(1, 1)])])]),
]);

/**
 * Appended likewise, makes `context = top_probs * token` of a new input `token` [1]: the smallest heads graph that reads
 * the next tree's root.
 */
export const tokenInput = Buffer.concat([
  message(7, [
    message(11, [text(1, 'token'), message(2, [message(1, [number(1, 7)])])]),
    message(1, [
      ...[text(1, 'token'), text(2, 'factor'), text(4, 'Cast')],
      message(5, [text(1, 'to'), number(3, 1), number(20, 2)]),
    ]),
  ]),
  message(7, [
    message(1, [text(1, 'top_probs'), text(1, 'factor'), text(2, 'context'), text(4, 'Mul')]),
    message(12, [text(1, 'context'), message(2, [message(1, [number(1, 1)])])]),
  ]),
]);

/** A length-delimited protobuf field of less than 128 bytes. */
function message(field: number, parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([tag(field, 2), Buffer.from([content.length]), content]);
}

/** A protobuf field with a number below 128. */
function number(field: number, value: number): Buffer {
  return Buffer.concat([tag(field, 0), Buffer.from([value])]);
}

/** Field number and wire type. */
function tag(field: number, type: number): Buffer {
  const value = (field << 3) | type;
  return Buffer.from(value < 128 ? [value] : [(value & 127) | 128, value >> 7]);
}

function text(field: number, value: string): Buffer {
  return message(field, [Buffer.from(value)]);
}
