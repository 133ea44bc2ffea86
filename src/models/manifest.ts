import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NestedTrees } from '../decoding/tree/nestedTrees.js';
import { TreeFormatError, type TemplateBounds } from '../decoding/tree/treeTemplate.js';
import type { ContextActivation } from '../decoding/tree/conditionalTable.js';
import { longestMatch } from '../decoding/tree/contextIndex.js';
import { isWeightRow, type LookupWeights } from '../decoding/tree/contextLookup.js';
import { ModelError } from '../util/errors.js';
import type { ModelShape, SharedAttention } from '../runtime/spec.js';
import { JsonReader } from '../util/jsonReader.js';
import { manifestName } from './fileNames.js';
import { prepareAgain, prepareCommand } from './prepareCommand.js';
import { sha256OfText } from '../util/sha256.js';

export { prepareAgain };

/** The version of manifest.json this program reads (docs/architecture.md). */
export const manifestFormat = 1;

export interface ModelFacts extends ModelShape {
  readonly id: string;
  readonly family: string;
}

export interface TokenizerFacts {
  readonly file: string;
  readonly config: string;
  readonly sha256: string;
  /** Absent in manifests written before it was added: the file is not checked then. */
  readonly configSha256: string | undefined;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly addBos: boolean;
}

/** The checkpoint a model was made from, and the MEDUSA-2 adapter that was merged into its weights. */
export interface SourceFacts {
  readonly kind: string;
  readonly name: string;
  readonly sha256: string | undefined;
  readonly adapter: { readonly name: string; readonly sha256: string } | undefined;
}

export interface StoredFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** One graph: its ONNX file, and all files it consists of. */
export interface GraphEntry {
  readonly precision: string;
  readonly file: string;
  readonly files: readonly StoredFile[];
}

export interface BackboneEntry extends GraphEntry {
  readonly layout: 'split' | 'shared';
  readonly capacity: number | undefined;
  /** Set only by export/attention_variants.py. */
  readonly attention: SharedAttention | undefined;
}

/** A table for joint `conditional` (`ConditionalTable`), in a file of its own. */
export interface ConditionalEntry extends StoredFile {
  readonly rank: number;
  readonly distances: number;
  readonly activation: ContextActivation;
  /** Whether the heads graph has the output `context`. */
  readonly hasContext: boolean;
  /** How many heads have a bias and a gain of their own: all or none. */
  readonly levels: number;
  readonly vocabSize: number;
  readonly draftVocabSize: number;
  /** sha256 of the tensors it was made from. */
  readonly sourceSha256: string | undefined;
}

export interface HeadsEntry extends GraphEntry {
  readonly name: string;
  readonly count: number;
  readonly maxTopM: number;
  /** Size of the hidden state the graph takes. */
  readonly hiddenSize: number | undefined;
  /** [count][rank] how often the candidate of that rank was right, on calibration data. */
  readonly accuracies: readonly (readonly number[])[];
  /** [count] divided out of the logits by the graph. */
  readonly temperatures: readonly number[];
  /** The static trees searched from `accuracies`. */
  readonly staticTrees: NestedTrees | undefined;
  readonly conditional: ConditionalEntry | undefined;
  /** r, when the graph has the output `context` [count, r]. */
  readonly contextSize: number | undefined;
  /** Whether the graph has the input `token`: the next tree's root. */
  readonly readsToken: boolean;
  /** [count + 1, lengths] how far repeats of the text are to be believed. */
  readonly lookupWeights: LookupWeights | undefined;
  readonly sourceSha256: string | undefined;
}

export interface ProviderDefaults {
  /** Absent when the model has no graph for this provider. */
  readonly backbone: string | undefined;
  readonly heads: string | undefined;
}

export interface Manifest {
  readonly exporter: string;
  readonly minimumOrt: string;
  readonly model: ModelFacts;
  readonly tokenizer: TokenizerFacts;
  readonly source: SourceFacts;
  readonly backbones: readonly BackboneEntry[];
  readonly keep: readonly GraphEntry[];
  readonly heads: readonly HeadsEntry[];
  readonly defaults: { readonly cpu?: ProviderDefaults; readonly cuda?: ProviderDefaults };
}

/** Reads and checks `folder/manifest.json`. Whether the files it names are whole is `checkFiles`' business. */
export async function readManifest(folder: string): Promise<Manifest> {
  const file = join(folder, manifestName);
  const mend = prepareAgain(folder);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new ModelError(`${file}: ${why}, so the folder is not a prepared model. ${mend}`, undefined, {
      cause: error,
    });
  }
  const reader = JsonReader.parse(text, file, mend);
  checkFormat(reader, file, mend);
  checkSeal(text, reader, file, mend);
  const manifest = readFields(reader);
  checkFit(manifest, folder, mend);
  return manifest;
}

function checkFormat(reader: JsonReader, file: string, mend: string): void {
  const format = reader.field('format').count(1);
  if (format > manifestFormat) {
    const exporter = reader.field('exporter').optional((each) => each.string()) ?? 'a newer version';
    throw new ModelError(
      `${file} has format ${format}, written by ${exporter}; this medusa-plus reads format ${manifestFormat}. ` +
        `Update medusa-plus, or: ${mend}`,
    );
  }
  if (format < manifestFormat) throw new ModelError(`${file} has the outdated format ${format}. ${mend}`);
}

/**
 * The manifest's own sha256, taken with zeros in its place. A manifest without it (written before there were any, or
 * changed by hand) is taken as it is.
 */
function checkSeal(text: string, root: JsonReader, file: string, mend: string): void {
  const seal = root.field('manifest_sha256').optional((each) => each.string());
  if (seal === undefined) return;
  const field = `"manifest_sha256": "`;
  const unsealed = text.replace(field + seal, field + '0'.repeat(64)).replaceAll('\r\n', '\n');
  if (sha256OfText(unsealed) === seal) return;
  throw new ModelError(`${file} was changed: its content does not give its manifest_sha256. ${mend}`);
}

function readFields(root: JsonReader): Manifest {
  const source = root.field('source');
  const defaults = root.field('defaults');
  return {
    exporter: root.field('exporter').string(),
    minimumOrt: root.field('minimum_ort').string(),
    model: readModel(root.field('model')),
    tokenizer: readTokenizer(root.field('tokenizer')),
    source: {
      kind: source.field('kind').string(),
      name: source.field('name').string(),
      sha256: source.field('sha256').optional((each) => each.string()),
      adapter: source.field('adapter').optional((each) => ({
        name: each.field('name').string(),
        sha256: each.field('sha256').string(),
      })),
    },
    backbones: root.field('backbones').list(readBackbone),
    keep: root.field('keep').optional((each) => each.list(readGraph)) ?? [],
    heads: root.field('heads').optional((each) => each.list(readHeads)) ?? [],
    defaults: {
      cpu: defaults.field('cpu').optional(readDefaults),
      cuda: defaults.field('cuda').optional(readDefaults),
    },
  };
}

function readModel(model: JsonReader): ModelFacts {
  return {
    id: model.field('id').string(),
    family: model.field('family').string(),
    layers: model.field('layers').count(),
    hiddenSize: model.field('hidden_size').count(),
    queryHeads: model.field('query_heads').count(),
    kvHeads: model.field('kv_heads').count(),
    headDim: model.field('head_dim').count(),
    vocabSize: model.field('vocab_size').count(),
    contextLength: model.field('context_length').count(),
  };
}

function readTokenizer(tokenizer: JsonReader): TokenizerFacts {
  return {
    file: tokenizer.field('file').fileName(),
    config: tokenizer.field('config').fileName(),
    sha256: tokenizer.field('sha256').string(),
    configSha256: tokenizer.field('config_sha256').optional((each) => each.string()),
    bosTokenId: tokenizer.field('bos_token_id').optional((each) => each.count(0)),
    eosTokenIds: tokenizer.field('eos_token_ids').list((each) => each.count(0)),
    addBos: tokenizer.field('add_bos').optional((each) => each.boolean()) ?? false,
  };
}

function readGraph(graph: JsonReader): GraphEntry {
  return {
    precision: graph.field('precision').string(),
    file: graph.field('file').fileName(),
    files: graph.field('files').list(readFileEntry),
  };
}

function readFileEntry(entry: JsonReader): StoredFile {
  return {
    file: entry.field('file').fileName(),
    bytes: entry.field('bytes').count(0),
    sha256: entry.field('sha256').string(),
  };
}

function readBackbone(backbone: JsonReader): BackboneEntry {
  return {
    ...readGraph(backbone),
    layout: backbone.field('layout').choice(['split', 'shared']),
    capacity: backbone.field('capacity').optional((each) => each.count()),
    attention: backbone
      .field('attention')
      .optional((each) => each.choice<SharedAttention>(['group-query', 'attention-24'])),
  };
}

function readHeads(heads: JsonReader): HeadsEntry {
  const count = heads.field('count').count();
  const maxTopM = heads.field('max_top_m').count();
  const graph = readGraph(heads);
  const conditional = heads.field('conditional').optional(readConditionalEntry);
  return {
    ...graph,
    // The table is checked with the graph's own files.
    files: conditional === undefined ? graph.files : [...graph.files, conditional],
    conditional,
    contextSize: conditional?.hasContext ? conditional.rank : undefined,
    name: heads.field('name').string(),
    count,
    maxTopM,
    hiddenSize: readHiddenSize(heads.field('inputs')),
    readsToken: readInputNames(heads.field('inputs')).includes('token'),
    accuracies:
      heads.field('accuracies').optional((each) => each.list((row) => row.list((rate) => rate.number()))) ??
      [],
    temperatures:
      heads.field('temperatures').optional((each) => each.list((temperature) => temperature.number())) ?? [],
    staticTrees: heads
      .field('static_tree')
      .optional((tree) => readStaticTrees(tree, { heads: count, topM: maxTopM })),
    lookupWeights: heads.field('lookup').optional((each) => readLookupWeights(each, count)),
    sourceSha256: heads.field('source_sha256').optional((each) => each.string()),
  };
}

function readLookupWeights(lookup: JsonReader, heads: number): LookupWeights {
  const levels = lookup.field('weights');
  const weights = levels.list((row) => row.list((weight) => weight.number()));
  if (weights.length === heads + 1 && weights.every(isWeightRow)) return weights;
  throw levels.refuse(`these must be ${heads + 1} lists of ${longestMatch} numbers from 0 to below 1.`);
}

function readStaticTrees(tree: JsonReader, bounds: TemplateBounds): NestedTrees {
  const paths = tree.list((path) => path.list((rank) => rank.count(0)));
  try {
    return NestedTrees.fromPaths(paths, bounds);
  } catch (error) {
    if (error instanceof TreeFormatError) throw tree.refuse(error.message);
    throw error;
  }
}

function readConditionalEntry(conditional: JsonReader): ConditionalEntry {
  return {
    ...readFileEntry(conditional),
    rank: conditional.field('rank').count(),
    distances: conditional.field('distances').count(),
    activation: conditional.field('activation').choice(['none', 'silu']),
    hasContext: conditional.field('context').boolean(),
    levels: conditional.field('levels').optional((each) => each.count()) ?? 0,
    vocabSize: conditional.field('vocab_size').count(),
    draftVocabSize: conditional.field('draft_vocab_size').count(),
    sourceSha256: conditional.field('source_sha256').optional((each) => each.string()),
  };
}

/** The last dimension of the input `hidden`; shapes hold numbers and symbols. */
function readHiddenSize(inputs: JsonReader): number | undefined {
  const sizes = inputs.optional((list) =>
    list.list((input) => {
      if (input.field('name').string() !== 'hidden') return undefined;
      return input.field('shape').list((size) => size.dimension())[1];
    }),
  );
  return sizes?.find((size) => size !== undefined);
}

function readInputNames(inputs: JsonReader): string[] {
  return inputs.optional((list) => list.list((input) => input.field('name').string())) ?? [];
}

function readDefaults(defaults: JsonReader): ProviderDefaults {
  return {
    backbone: defaults.field('backbone').optional((each) => each.string()),
    heads: defaults.field('heads').optional((each) => each.string()),
  };
}

/** What each field cannot say alone. */
function checkFit(manifest: Manifest, folder: string, mend: string): void {
  const file = join(folder, manifestName);
  const { model, heads, backbones } = manifest;
  if (backbones.length === 0) throw new ModelError(`${file} lists no backbone. ${mend}`);
  if (model.queryHeads % model.kvHeads !== 0) {
    throw new ModelError(
      `${file}: ${model.queryHeads} query heads cannot share ${model.kvHeads} key/value heads evenly. ${mend}`,
    );
  }
  for (const entry of heads) {
    if (entry.hiddenSize !== undefined && entry.hiddenSize !== model.hiddenSize) {
      throw new ModelError(
        `${file}: heads ${entry.name} (${entry.file}) take hidden states of ${entry.hiddenSize} values, but model ` +
          `${model.id} gives ${model.hiddenSize}: they were trained for another model. ` +
          `Prepare the model with its own heads: ${prepareCommand(folder, '--heads', 'FILE', '--force')}.`,
      );
    }
    if (entry.conditional !== undefined) checkConditional(entry.conditional, entry.count, model, file, mend);
  }
}

function checkConditional(
  entry: ConditionalEntry,
  heads: number,
  model: ModelFacts,
  file: string,
  mend: string,
): void {
  const { rank, distances, vocabSize, draftVocabSize, levels, bytes } = entry;
  if (vocabSize !== model.vocabSize) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} is for ${vocabSize} tokens, but model ${model.id} has ` +
        `${model.vocabSize}: it was trained for another model. ${mend}`,
    );
  }
  if (levels !== 0 && levels !== heads) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} has levels for ${levels} heads, but there are ${heads}. ${mend}`,
    );
  }
  const expected = 4 * (draftVocabSize + (distances * vocabSize + draftVocabSize + 2 * levels) * rank);
  if (bytes !== expected) {
    throw new ModelError(
      `${file}: the conditional table ${entry.file} should have ${expected} bytes by its sizes, not ${bytes}. ${mend}`,
    );
  }
}

/** Checks that the files of a graph are there and as long as they should be. Their bytes: `checkChanged`. */
export async function checkFiles(folder: string, graph: Pick<GraphEntry, 'files'>): Promise<void> {
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
