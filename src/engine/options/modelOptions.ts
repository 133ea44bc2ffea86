import { precisionNames } from '../../models/precisions.js';
import type { TableFor } from './entry.js';

export type ProviderName = 'cpu' | 'cuda' | 'auto';

/** Which model to open, and on what. Everything is optional. */
export interface ModelOptions {
  /** Name of a prepared model, its source's name on the Hugging Face hub, or the path of its folder. */
  model?: string;
  /**
   * Prepare a missing model: true one of the hub too, which is fetched; false none. Otherwise only the default one is
   * prepared.
   */
  prepare?: boolean;
  /** Folder of the prepared models. */
  modelsDir?: string;
  /** Precision of the base model; the manifest's default for the provider otherwise. */
  precision?: string;
  /** Name of the heads, or `none`; the manifest's default otherwise. */
  heads?: string;
  /** `cpu` (the default), `cuda`, or `auto`: CUDA where it runs, else the CPU. */
  provider?: ProviderName;
  /** ONNX Runtime library to load. */
  ortLibrary?: string;
  /** CPU threads, 1 to 256, kept whatever else runs; measured otherwise, and fewer while other programs keep processors busy. */
  threads?: number;
  /** Chat template in place of the model's: vicuna_v1.1, llama-2, chatml, zephyr, mistral, or a file (Jinja). */
  chatTemplate?: string;
  /**
   * A file that keeps what drafts learn from (`draft`) from one process to the next: fragments of prompts and answers, readable
   * by its owner only. Written when the engine is disposed. Without it, and for calls with a `user`, they are forgotten with
   * the process.
   */
  memory?: string;
}

const group = 'Model';

export const modelTable = {
  model: {
    group,
    kind: 'text',
    help: 'Name of a prepared model, OWNER/NAME on the Hugging Face hub that it was made from, or the path of its folder',
    defaultText: 'smollm2-135m-instruct',
    inRun: 'model.id',
  },
  prepare: {
    group,
    kind: 'flag',
    help: 'Fetch and prepare the model first where it is missing and --model names one of the Hugging Face hub',
    commands: ['generate', 'bench', 'compare'],
  },
  modelsDir: {
    group,
    kind: 'text',
    help: 'Folder of the prepared models; also MEDUSA_PLUS_MODELS',
    defaultText: 'onnx/ of the checkout, else the user cache',
    commands: ['generate', 'bench', 'compare', 'doctor', 'prepare'],
  },
  precision: {
    group,
    kind: 'text',
    help: `Precision of the base model: ${precisionNames.join(', ')} (CUDA)`,
    defaultText: "the model's own",
    inRun: 'model.precision',
    sweep: true,
  },
  heads: {
    group,
    kind: 'text',
    help: 'Name of the Medusa heads, or none',
    defaultText: "the model's own",
    inRun: 'model.heads',
    sweep: true,
    scope: 'trees',
  },
  provider: {
    group,
    kind: 'choice',
    help: 'Where to run',
    choices: { cpu: '', cuda: '', auto: 'CUDA where it runs, else the CPU' },
    defaultText: 'cpu',
    inRun: 'model.provider',
  },
  ortLibrary: {
    group,
    kind: 'text',
    help: 'GPU build of ONNX Runtime, for CUDA; also MEDUSA_PLUS_ORT_LIBRARY',
    commands: ['generate', 'bench', 'compare', 'doctor'],
  },
  threads: {
    group,
    kind: 'number',
    range: { integer: true, minimum: 1, maximum: 256 },
    help: 'CPU threads',
    defaultText: 'measured at preparation; fewer while other programs keep processors busy',
    inRun: 'machine.threads',
  },
  chatTemplate: {
    group,
    kind: 'text',
    help: 'Chat template: vicuna_v1.1, llama-2, chatml, zephyr, mistral, or a file (Jinja)',
    defaultText: "the model's own; vicuna_v1.1 for Vicuna",
    commands: ['generate', 'bench', 'compare', 'prepare'],
    inRun: 'model.chat_template',
    shared: true,
  },
  memory: {
    group,
    kind: 'text',
    help: 'File that keeps what drafts learn from for the next call: fragments of prompts and answers. Delete it, and FILE.damaged, FILE.damaged.2 ... where there are any, to forget them',
    commands: ['generate'],
  },
} as const satisfies TableFor<ModelOptions>;
