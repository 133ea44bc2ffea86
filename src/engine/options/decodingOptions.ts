import type { AcceptanceName } from '../../decoding/types.js';
import type { TableFor } from './entry.js';

export type TreeName = 'dynamic' | 'static' | 'none';
export type MarginalsName = 'full' | 'top-m';
export type JointName = 'product' | 'conditional';
export type DraftName = 'heads' | 'recycle' | 'lookup';

/** How the tokens of one generation are chosen. Everything is optional; docs/options.md lists ranges and defaults. */
export interface DecodingOptions {
  /** Candidate tree; `dynamic` unless another is asked for. */
  tree?: TreeName;
  /**
   * Nodes per tree, root included, 1 to 1024, or `auto`: chosen for each step from the measured cost of this machine.
   * With `treePaths` the size is theirs.
   */
  nodes?: number | 'auto';
  /** How many of the model's heads take part (at most as many as it has). */
  headsUsed?: number;
  /** Candidates taken from each head (at most as many as they give). */
  topM?: number;
  /** The static tree as paths of ranks, for example [[0], [1], [0, 0]]. Implies `tree: 'static'`. */
  treePaths?: readonly (readonly number[])[];
  /** `full`: softmax over the whole draft vocabulary. `top-m`: renormalised over the top m, as the reference does. */
  marginals?: MarginalsName;
  /**
   * How dynamic trees rank combinations of candidates. `product`: the heads' probabilities multiplied. `conditional`:
   * corrected for the tokens before each candidate, by a table that comes with the heads; the default where one does.
   */
  joint?: JointName;
  /**
   * What dynamic trees are made of: the `heads`, tokens that the model preferred before after the same tokens (`recycle`), and
   * what followed the same tokens in the text so far (`lookup`). All that there is, but the heads alone where `joint` asks for
   * the plain `product`.
   */
  draft?: readonly DraftName[];
  /**
   * The exact tree of the MEDUSA-Plus paper: stands for tree `dynamic`, joint `product`, marginals `top-m`, draft `heads`.
   * Combined with another value of one of these it is an error.
   */
  paper?: boolean;
  /** 0 (the default) is greedy; at most 100. */
  temperature?: number;
  /** `greedy` at temperature 0; above, exact `sampling`, or `nucleus` when `topP` is given. `typical` is lossy. */
  acceptance?: AcceptanceName;
  /** For `nucleus`: the most probable tokens up to this mass are kept. Above 0, at most 1. */
  topP?: number;
  /** Seed of the random numbers, 0 to 2^32 - 1; drawn at random otherwise. */
  seed?: number;
  /** Most tokens to generate, exactly. */
  maxNewTokens?: number;
  /** Generation ends before the first of these strings. */
  stop?: readonly string[];
  /** Go on after the end-of-sequence token, up to `maxNewTokens`: for measuring throughput over a fixed length. */
  ignoreEos?: boolean;
}

/** The options of a generation with the defaults filled in and `paper` resolved into what it stands for. */
export interface ResolvedDecodingOptions extends Readonly<
  Required<Omit<DecodingOptions, 'paper' | 'treePaths'>>
> {
  readonly treePaths: DecodingOptions['treePaths'];
}

const tree = 'Tree';
const sampling = 'Sampling and stopping';

export const decodingTable = {
  tree: {
    group: tree,
    kind: 'choice',
    help: 'Candidate tree',
    choices: {
      dynamic: 'a new one for each step',
      static: 'one for all steps, from the accuracy of the heads, or from --tree-file',
      none: 'plain decoding',
    },
    default: 'dynamic',
    inRun: 'decoding.tree',
  },
  nodes: {
    group: tree,
    kind: 'number',
    range: { integer: true, minimum: 1, maximum: 1024 },
    words: { auto: 'from the cost measured on this machine' },
    help: 'Nodes per tree, root included',
    default: 'auto',
    inRun: 'decoding.nodes',
    sweep: true,
    scope: 'trees',
  },
  headsUsed: {
    group: tree,
    kind: 'number',
    range: { integer: true, minimum: 1, maximum: 16 },
    help: 'How many heads take part',
    default: 4,
    inRun: 'decoding.headsUsed',
    sweep: true,
    scope: 'trees',
  },
  topM: {
    group: tree,
    kind: 'number',
    range: { integer: true, minimum: 1, maximum: 1024 },
    help: 'Candidates per head',
    default: 32,
    inRun: 'decoding.topM',
    sweep: true,
    scope: 'trees',
  },
  treePaths: {
    group: tree,
    kind: 'paths',
    help: 'Tree from a JSON file of paths of ranks, [[0],[1],[0,0]]; FILE#NAME picks one of several',
    flag: 'tree-file',
    inRun: 'decoding.treePaths',
    scope: 'static trees',
  },
  marginals: {
    group: tree,
    kind: 'choice',
    help: 'Probabilities of the heads',
    choices: {
      full: 'softmax over the whole draft vocabulary',
      'top-m': 'renormalised over the candidates, as the reference has it',
    },
    default: 'full',
    inRun: 'decoding.marginals',
    sweep: true,
    scope: 'dynamic trees',
  },
  joint: {
    group: tree,
    kind: 'choice',
    help: 'What ranks combinations of candidates',
    choices: { product: 'of their probabilities', conditional: 'the product corrected by a learnt table' },
    defaultText: 'conditional for dynamic trees where the heads come with a table',
    inRun: 'decoding.joint',
    whenAbsent: 'product',
    sweep: true,
    scope: 'dynamic trees',
  },
  draft: {
    group: tree,
    kind: 'set',
    help: 'What candidates come from',
    choices: {
      heads: '',
      recycle: 'what the model preferred after the same tokens before',
      lookup: 'what followed the same tokens in the text so far',
    },
    defaultText: 'heads,recycle,lookup (heads with --joint product; recycle,lookup without heads)',
    inRun: 'decoding.draft',
    whenAbsent: ['heads'],
    sweep: true,
    scope: 'dynamic trees',
  },
  paper: {
    group: tree,
    kind: 'flag',
    help: "The paper's exact tree: --tree dynamic --joint product --marginals top-m --draft heads",
    default: false,
    scope: 'dynamic trees',
  },
  temperature: {
    group: sampling,
    kind: 'number',
    range: { integer: false, minimum: 0, maximum: 100 },
    help: 'Temperature (0 is greedy)',
    default: 0,
    inRun: 'protocol.temperature',
    shared: true,
    forQuestions: { words: { fastchat: '0.7, 0.1 or 0 by category, as MT-Bench has it' } },
  },
  acceptance: {
    group: sampling,
    kind: 'choice',
    help: 'Which candidates are accepted',
    choices: {
      greedy: 'the most probable',
      sampling: 'exact',
      typical: 'lossy',
      nucleus: 'exact within --top-p',
    },
    defaultText: 'greedy; above temperature 0 sampling, nucleus with --top-p',
    inRun: 'decoding.acceptance',
    sweep: true,
  },
  topP: {
    group: sampling,
    kind: 'number',
    range: { integer: false, minimum: 0, maximum: 1, aboveMinimum: true },
    help: 'For nucleus: sample from the most probable tokens up to this mass',
    default: 0.8,
    inRun: 'decoding.topP',
  },
  seed: {
    group: sampling,
    kind: 'number',
    range: { integer: true, minimum: 0, maximum: 2 ** 32 - 1 },
    help: 'Seed of the random numbers',
    defaultText: 'random',
    inRun: 'protocol.seed',
    shared: true,
    forQuestions: { default: 0 },
  },
  maxNewTokens: {
    group: sampling,
    kind: 'number',
    range: { integer: true, minimum: 1, maximum: 1_000_000 },
    help: 'Most tokens to generate',
    default: 256,
    inRun: 'decoding.maxNewTokens',
    shared: true,
    forQuestions: { help: 'Most tokens of an answer', default: 512 },
  },
  stop: {
    group: sampling,
    kind: 'texts',
    help: 'Stop before this text; may be repeated',
    default: [],
    inRun: 'decoding.stop',
    shared: true,
  },
  ignoreEos: {
    group: sampling,
    kind: 'flag',
    help: 'Go on after the end-of-sequence token, up to --max-new-tokens: for measuring throughput',
    default: false,
    inRun: 'decoding.ignoreEos',
    whenAbsent: false,
    shared: true,
  },
} as const satisfies TableFor<DecodingOptions>;
