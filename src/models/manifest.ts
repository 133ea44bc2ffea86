import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type * as v from 'valibot';
import { ModelError } from '../util/errors.js';
import { checkJson, count, object, optional, parseJson, text } from '../util/json.js';
import { sha256OfText } from '../util/sha256.js';
import { manifestName } from './fileNames.js';
import { manifestSchema, type ConditionalEntry, type Manifest, type StoredFile } from './manifestSchema.js';
import { prepareAgain, prepareCommand } from './prepareCommand.js';

/** The version of manifest.json this program reads (docs/formats.md). */
const manifestFormat = 1;

/** Reads and checks `folder/manifest.json`. Whether the files it names are whole is `checkFiles`' business. */
export async function readManifest(folder: string): Promise<Manifest> {
  const file = join(folder, manifestName);
  const fix = prepareAgain(folder);
  let content: string;
  try {
    content = await readFile(file, 'utf8');
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new ModelError(`${file}: ${why}, so the folder is not a prepared model. ${fix}`, undefined, {
      cause: error,
    });
  }
  const json = parseJson(content, file, fix);
  const envelope = checkJson(envelopeSchema, json, file, fix);
  checkFormat(envelope, file, fix);
  checkSeal(content, envelope.manifest_sha256, file, fix);
  const manifest = checkJson(manifestSchema, json, file, fix);
  checkFit(manifest, file, fix);
  return manifest;
}

/** What a manifest of any version has. */
const envelopeSchema = object({
  format: count(),
  exporter: optional(text),
  manifest_sha256: optional(text),
});

function checkFormat(
  { format, exporter }: v.InferOutput<typeof envelopeSchema>,
  file: string,
  fix: string,
): void {
  if (format > manifestFormat) {
    throw new ModelError(
      `${file} has format ${format}, written by ${exporter ?? 'a newer version'}; this medusa-plus reads format ` +
        `${manifestFormat}. Update medusa-plus, or: ${fix}`,
    );
  }
  if (format < manifestFormat) throw new ModelError(`${file} has the outdated format ${format}. ${fix}`);
}

/**
 * The manifest's own sha256, taken with zeros in its place. A manifest without it (written before there were any, or
 * changed by hand) is taken as it is.
 */
function checkSeal(content: string, seal: string | undefined, file: string, fix: string): void {
  if (seal === undefined) return;
  const field = `"manifest_sha256": "`;
  const unsealed = content.replace(field + seal, field + '0'.repeat(64)).replaceAll('\r\n', '\n');
  if (sha256OfText(unsealed) === seal) return;
  throw new ModelError(`${file} was changed: its content does not give its manifest_sha256. ${fix}`);
}

/** What each field cannot say alone. */
function checkFit(manifest: Manifest, file: string, fix: string): void {
  const { model, heads, backbones } = manifest;
  if (backbones.length === 0) throw new ModelError(`${file} lists no backbone. ${fix}`);
  if (model.queryHeads % model.kvHeads !== 0) {
    throw new ModelError(
      `${file}: ${model.queryHeads} query heads cannot share ${model.kvHeads} key/value heads evenly. ${fix}`,
    );
  }
  for (const entry of heads) {
    if (entry.hiddenSize !== undefined && entry.hiddenSize !== model.hiddenSize) {
      throw new ModelError(
        `${file}: heads ${entry.name} (${entry.file}) take hidden states of ${entry.hiddenSize} values, but model ` +
          `${model.id} gives ${model.hiddenSize}: they were trained for another model. ` +
          `Prepare the model with its own heads: ${prepareCommand(dirname(file), '--heads', 'FILE', '--force')}.`,
      );
    }
    if (entry.conditional !== undefined) checkConditional(entry.conditional, entry.count, model, file, fix);
  }
}

function checkConditional(
  entry: ConditionalEntry,
  heads: number,
  model: Manifest['model'],
  file: string,
  fix: string,
): void {
  const { rank, distances, vocabSize, draftVocabSize, levels, bytes } = entry;
  if (vocabSize !== model.vocabSize) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} is for ${vocabSize} tokens, but model ${model.id} has ` +
        `${model.vocabSize}: it was trained for another model. ${fix}`,
    );
  }
  if (levels !== 0 && levels !== heads) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} has levels for ${levels} heads, but there are ${heads}. ${fix}`,
    );
  }
  const expected = 4 * (draftVocabSize + (distances * vocabSize + draftVocabSize + 2 * levels) * rank);
  if (bytes !== expected) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} should have ${expected} bytes by its sizes, not ${bytes}. ${fix}`,
    );
  }
}

/** Checks that the files of a graph are there and as long as they should be. Their bytes: `checkChanged`. */
export async function checkFiles(
  folder: string,
  graph: { readonly files: readonly StoredFile[] },
): Promise<void> {
  for (const { file, bytes } of graph.files) {
    const path = join(folder, file);
    const found = await sizeOf(path);
    if (found === undefined) throw new ModelError(`${path} is missing. ${prepareAgain(folder)}`);
    if (found !== bytes) {
      const kind = found < bytes ? 'truncated' : 'another file';
      throw new ModelError(
        `${path} is ${kind}: its manifest says ${bytes} bytes, the file has ${found}. ${prepareAgain(folder)}`,
      );
    }
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
