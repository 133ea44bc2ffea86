/** The format of manifest.json (docs/formats.md), and what is made of it here. */
import * as v from 'valibot';
import { NestedTrees } from '../decoding/tree/nestedTrees.js';
import { TreeFormatError } from '../decoding/tree/staticTree.js';
import {
  across,
  choice,
  count,
  fileName,
  flag,
  list,
  name,
  number,
  object,
  optional,
  type Schema,
} from '../util/json.js';

type CamelCase<S> = S extends `${infer Begin}_${infer Letter}${infer Rest}`
  ? CamelCase<`${Begin}${Uppercase<Letter>}${Rest}`>
  : S;
type CamelCased<T> = { readonly [K in keyof T as CamelCase<K>]: T[K] };

const camelCased = <T extends object>(fields: T): CamelCased<T> =>
  Object.fromEntries(
    Object.entries(fields).map(([key, value]: [string, unknown]) => [
      key.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      value,
    ]),
  ) as CamelCased<T>;

/** An object whose fields are hidden_size in the file and hiddenSize in the program. */
const fields = <const E extends v.ObjectEntries>(
  entries: E,
): Schema<CamelCased<v.InferOutput<v.ObjectSchema<E, undefined>>>> =>
  v.pipe(object(entries), v.transform(camelCased));

const model = fields({
  id: name,
  family: name,
  layers: count(),
  hidden_size: count(),
  query_heads: count(),
  kv_heads: count(),
  head_dim: count(),
  vocab_size: count(),
  context_length: count(),
});

const tokenizer = fields({
  file: fileName,
  config: fileName,
  sha256: name,
  /** Absent in manifests written before it was added: the file is not checked then. */
  config_sha256: optional(name),
  bos_token_id: optional(count(0)),
  eos_token_ids: list(count(0)),
  add_bos: v.nullish(flag, false),
});

/** The checkpoint a model was made from, and the MEDUSA-2 adapter that was merged into its weights. */
const source = fields({
  kind: name,
  /** On the Hugging Face hub, or of the file or folder. */
  name,
  /** The commit on the hub. */
  revision: optional(name),
  /** The branch, tag or commit that was named for it; main where none was. */
  revision_asked: optional(name),
  sha256: optional(name),
  adapter: optional(fields({ name, sha256: name })),
});

const stored = { file: fileName, bytes: count(0), sha256: name };
const storedFile = fields(stored);

/** One graph: its ONNX file, and all files it consists of. */
const graph = { precision: name, file: fileName, files: list(storedFile) };
const graphEntry = fields(graph);

const backboneEntry = fields({
  ...graph,
  layout: choice(['split', 'shared']),
  capacity: optional(count()),
  /** Whether int8 weights are kept as uint8, as the exact kernel of processors without VNNI wants them. */
  unsigned_weights: v.nullish(flag, false),
});

/** A table for joint `conditional` (`ConditionalTable`), in a file of its own. */
const conditionalEntry = fields({
  ...stored,
  rank: count(),
  distances: count(),
  activation: choice(['none', 'silu']),
  /** Whether the heads graph has the output `context`. */
  context: flag,
  /** How many heads have a bias and a gain of their own: all or none. */
  levels: v.nullish(count(0), 0),
  vocab_size: count(),
  draft_vocab_size: count(),
  /** sha256 of the tensors it was made from. */
  source_sha256: optional(name),
});

const headsEntry = v.pipe(
  object({
    ...graph,
    name,
    count: count(),
    max_top_m: count(),
    /** Of the graph; sizes that it leaves open have names. */
    inputs: v.nullish(
      list(object({ name, shape: list(v.union([v.string(), count(0)], 'a size or a name')) })),
      [],
    ),
    /** [count][rank] how often the candidate of that rank was right, on calibration data. */
    accuracies: v.nullish(list(list(number)), []),
    /** [count] divided out of the logits by the graph. */
    temperatures: v.nullish(list(number), []),
    /** The static trees that were searched from `accuracies`: paths of ranks, the first n of which are the tree of n. */
    static_tree: optional(list(list(count(0)))),
    conditional: optional(conditionalEntry),
    /** sha256 of the tensors they were made from. */
    source_sha256: optional(name),
  }),
  across(({ static_tree, count, max_top_m }) => {
    try {
      if (static_tree) NestedTrees.fromPaths(static_tree, { heads: count, topM: max_top_m });
      return undefined;
    } catch (error) {
      if (!(error instanceof TreeFormatError)) throw error;
      return { at: ['static_tree'], expected: `a list of nested trees (${error.message})` };
    }
  }),
  v.transform(({ inputs, static_tree, ...fields }) => {
    const heads = camelCased(fields);
    const { conditional, files, count, maxTopM } = heads;
    const hidden = inputs.find((input) => input.name === 'hidden')?.shape[1];
    return {
      ...heads,
      // The table is checked with the graph's own files.
      files: conditional === undefined ? files : [...files, conditional],
      /** r, when the graph has the output `context` [count, r]. */
      contextSize: conditional?.context ? conditional.rank : undefined,
      /** Size of the hidden state that the graph takes, where it says. */
      hiddenSize: typeof hidden === 'number' ? hidden : undefined,
      /** Whether the graph has the input `token`: the next tree's root. */
      readsToken: inputs.some((input) => input.name === 'token'),
      staticTrees: static_tree && NestedTrees.fromPaths(static_tree, { heads: count, topM: maxTopM }),
    };
  }),
);

/** The precision and the heads to take where the user names none; absent when the model has no graph for the provider. */
const providerDefaults = optional(object({ backbone: optional(name), heads: optional(name) }));

export const manifestSchema = fields({
  exporter: name,
  minimum_ort: name,
  model,
  tokenizer,
  source,
  backbones: list(backboneEntry),
  keep: v.nullish(list(graphEntry), []),
  heads: v.nullish(list(headsEntry), []),
  defaults: object({ cpu: providerDefaults, cuda: providerDefaults }),
});

export type StoredFile = v.InferOutput<typeof storedFile>;
export type GraphEntry = v.InferOutput<typeof graphEntry>;
export type BackboneEntry = v.InferOutput<typeof backboneEntry>;
export type ConditionalEntry = v.InferOutput<typeof conditionalEntry>;
export type HeadsEntry = Readonly<v.InferOutput<typeof headsEntry>>;
export type Manifest = v.InferOutput<typeof manifestSchema>;
