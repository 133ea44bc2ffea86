/** What there is to know of the prepared models of a folder, without opening them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { builtinNameOf, impliedTemplate } from '../engine/text/builtinTemplates.js';
import { object, optional, tryJson } from '../util/json.js';
import * as v from 'valibot';
import { preparedModels } from './locate.js';
import { readManifest } from './manifest.js';
import type { HeadsEntry } from './manifestSchema.js';

export interface ModelSummary {
  readonly name: string;
  readonly family: string;
  /** Layers, hidden size, context length. */
  readonly size: string;
  readonly precisions: readonly string[];
  /** Names of the heads, with their number. */
  readonly heads: readonly string[];
  /** Bytes of all files in its folder. */
  readonly bytes: number;
  /** `own`, the name of a built-in one that is taken or kept in the model, or `none`. */
  readonly chatTemplate: string;
  /** The checkpoint that it was made from. */
  readonly source: string;
}

/** A model whose manifest cannot be read. */
export interface DamagedModel {
  readonly name: string;
  readonly bytes: number;
  readonly error: string;
}

export async function listModels(modelsDir: string): Promise<(ModelSummary | DamagedModel)[]> {
  return Promise.all(preparedModels(modelsDir).map((name) => summaryOf(modelsDir, name)));
}

async function summaryOf(modelsDir: string, name: string): Promise<ModelSummary | DamagedModel> {
  const folder = join(modelsDir, name);
  const bytes = await bytesOf(folder);
  try {
    const { model, backbones, heads, source, tokenizer } = await readManifest(folder);
    const config = tryJson(configSchema, await readFile(join(folder, tokenizer.config), 'utf8'));
    const isOwn = (config?.chat_template ?? '').length > 0;
    return {
      name,
      family: model.family,
      size: `${model.layers} x ${model.hiddenSize}, context ${model.contextLength}`,
      precisions: [
        ...new Set(
          backbones.map(({ precision, layout }) => `${precision}${layout === 'shared' ? ' (CUDA)' : ''}`),
        ),
      ],
      heads: [...new Set(heads.map(describeHeads))],
      bytes,
      chatTemplate: isOwn
        ? (builtinNameOf(config?.chat_template) ?? 'own')
        : (impliedTemplate(model.id, source.name) ?? 'none'),
      source: source.name,
    };
  } catch (error) {
    return { name, bytes, error: (error as Error).message };
  }
}

function describeHeads({ name, count, conditional }: HeadsEntry): string {
  return `${name} (${count}${conditional ? ', conditional table' : ''})`;
}

const configSchema = object({
  chat_template: optional(v.union([v.string(), v.array(v.unknown())])),
});

/** A file may go away meanwhile, and counts nothing then. */
async function bytesOf(folder: string): Promise<number> {
  const files = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = files
    .filter((file) => file.isFile())
    .map((file) =>
      stat(join(file.parentPath, file.name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
