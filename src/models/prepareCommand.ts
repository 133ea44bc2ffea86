import { readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { list, object, optional, text, tryJson } from '../util/json.js';
import { defaultModelName, defaultWeightsSha256 } from './defaultModel.js';
import { adapterSuffix, manifestName } from './fileNames.js';
import { parseHubName } from './hubName.js';
import { modelsFolder } from './modelsFolder.js';

/**
 * The command that makes the model in `folder`, or makes it again, for hints. What its manifest does not hold, the path
 * of a checkpoint or of heads, stands in angle brackets.
 *
 * @param folder of the model, which need not be whole nor be there
 * @param options to add; a --heads or --from of their own replaces what the manifest says
 */
export function prepareCommand(folder: string, ...options: readonly string[]): string {
  const name = basename(resolve(folder));
  const parent = dirname(resolve(folder));
  const made = readOrigin(folder);
  const parts = ['medusa-plus prepare'];
  if (name !== defaultModelName) {
    const hasBase = made?.isDefault === true && made.adapter !== undefined;
    if (!hasBase && !options.includes('--from'))
      parts.push(`--from ${asGiven(made?.source ?? 'HF folder or .gguf file')}`);
    if (made?.adapter !== undefined) parts.push(`--adapter <${made.adapter}${adapterSuffix}>`);
    // An adapter brings the heads that lie beside it.
    else if (!options.includes('--heads'))
      for (const each of made?.heads ?? []) parts.push(`--heads <${each}>`);
  }
  if (name !== defaultModelName) parts.push(`--id ${quoted(name)}`);
  if (parent !== modelsFolder(undefined)) parts.push(`--models-dir ${quoted(parent)}`);
  return [...parts, ...options].join(' ');
}

/** A name on the hub can be given as it is; of what lay elsewhere only the name is known. */
const asGiven = (source: string): string => (parseHubName(source) === undefined ? `<${source}>` : source);

/** "Prepare the model again: medusa-plus prepare ... --force." */
export function prepareAgain(folder: string): string {
  return `Prepare the model again: ${prepareCommand(folder, '--force')} (its folder is ${folder}).`;
}

const named = object({ name: optional(text) });
const originSchema = object({
  source: optional(
    object({
      name: optional(text),
      revision: optional(text),
      revision_asked: optional(text),
      sha256: v.unknown(),
      adapter: optional(named),
    }),
  ),
  heads: v.nullish(list(named), []),
});

interface Origin {
  readonly source: string | undefined;
  readonly revision: string | undefined;
  readonly revisionAsked: string | undefined;
  readonly adapter: string | undefined;
  readonly heads: readonly string[];
  /** Made from the default model's weights, which need no --from with the default name or an adapter. */
  readonly isDefault: boolean;
}

/** What a manifest says of where a model came from, as far as it can be read: this is for messages about damaged ones. */
export function readOrigin(folder: string): Origin | undefined {
  const origin = tryJson(originSchema, readText(join(folder, manifestName)));
  if (origin === undefined) return undefined;
  const { source, heads } = origin;
  return {
    source: source?.name,
    revision: source?.revision,
    revisionAsked: source?.revision_asked,
    adapter: source?.adapter?.name,
    heads: [...new Set(heads.flatMap((each) => each.name ?? []))],
    isDefault: source?.sha256 === defaultWeightsSha256,
  };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** As a shell takes it: in quotes where it needs them. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
