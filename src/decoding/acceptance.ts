import { findChild, pathTo } from './tree/candidateTree.js';
import { NextTokenDistribution } from './distribution.js';
import { createRandom, type Random } from './random.js';
import type { Acceptance, AcceptanceName, AcceptedPath, CandidateTree, VerifiedRows } from './types.js';

/**
 * The ways to accept a path of a verified tree.
 *
 * | name | output | |
 * |---|---|---|
 * | greedy | exactly greedy decoding | a child is accepted when it is its parent's argmax |
 * | sampling | exactly sampling at the temperature | draw from the model at each node, descend while a child was drawn |
 * | nucleus | exactly sampling from the truncated distribution | the same with top-p |
 * | typical | lossy | Medusa's typical acceptance |
 *
 * At temperature 0 each of them is `greedy`.
 */
export interface AcceptanceOptions {
  readonly name: AcceptanceName;
  /** >= 0; 0 means greedy. */
  readonly temperature?: number;
  /** Mass of the nucleus, in (0, 1]. Read by `nucleus` (default 0.8) and `sampling` (default 1: no truncation). */
  readonly topP?: number;
  /** Typical acceptance's hard threshold (default 0.09). */
  readonly epsilon?: number;
  /** Typical acceptance's entropy-dependent threshold (default 0.3). */
  readonly alpha?: number;
  /** Seed of the draws; the same seed gives the same tokens. */
  readonly seed?: number;
}

export function createAcceptance(options: AcceptanceOptions): Acceptance {
  const { name, temperature = 0, topP, epsilon, alpha, seed = 0 } = options;
  checkRange('temperature', temperature, temperature >= 0 && temperature < Infinity, 'a number from 0');
  if (temperature === 0 || name === 'greedy') return greedyAcceptance();
  if (name === 'typical') return typicalAcceptance({ temperature, epsilon, alpha });
  const random = createRandom(seed);
  if (name === 'nucleus') return samplingAcceptance({ name, temperature, topP: topP ?? 0.8, random });
  return samplingAcceptance({ name, temperature, topP: topP ?? 1, random });
}

/** Lossless greedy acceptance: from the root, descend into the child that is the backbone's own argmax. */
export function greedyAcceptance(): Acceptance {
  return {
    name: 'greedy',
    needsLogits: false,
    firstToken: (result) => result.nextTokens[0],
    accept: (tree, result) => descend(tree, (row) => result.nextTokens[row]),
  };
}

export interface SamplingOptions {
  readonly name?: 'sampling' | 'nucleus';
  /** > 0. */
  readonly temperature: number;
  /** In (0, 1]; 1 keeps the whole distribution. */
  readonly topP?: number;
  readonly random: Random;
}

/**
 * Exact sampling over a tree: at each visited node draw once from the backbone's distribution; when the drawn token is
 * a child, descend; otherwise it is the bonus token. Every emitted token is a draw from the distribution that plain
 * sampling would have drawn it from, whatever the tree holds. It also takes one draw for each token, in order: the same
 * seed gives the same tokens with and without a tree.
 *
 * With `topP` < 1 the draws come from the nucleus of that distribution, so the output equals plain top-p sampling. This
 * is Medusa's nucleus acceptance with one draw for each node: Medusa draws once for each root-to-leaf path, so shared
 * nodes get several draws, which favours tokens that happen to be candidates.
 */
export function samplingAcceptance(options: SamplingOptions): Acceptance {
  const { name = 'sampling', temperature, topP = 1, random } = options;
  checkTemperature(temperature);
  checkRange('topP', topP, topP > 0 && topP <= 1, 'above 0 and at most 1');
  const distribution = new NextTokenDistribution();
  const draw = (result: VerifiedRows, row: number): number =>
    distribution.load(result, row, temperature).keepNucleus(topP).sample(random);
  return {
    name,
    needsLogits: true,
    firstToken: (result) => draw(result, 0),
    accept: (tree, result) => descend(tree, (row) => draw(result, row)),
  };
}

export interface TypicalOptions {
  /** > 0. */
  readonly temperature: number;
  readonly epsilon?: number;
  readonly alpha?: number;
}

/**
 * Typical acceptance (Medusa, 2401.10774): a candidate x is accepted when its parent gives it
 * p(x) > min(epsilon, alpha exp(-H)). Of the longest accepted paths the most probable wins; the bonus token is the
 * argmax after it. Lossy: the output follows neither greedy decoding nor the model's distribution. Deterministic.
 */
export function typicalAcceptance({ temperature, epsilon = 0.09, alpha = 0.3 }: TypicalOptions): Acceptance {
  checkTemperature(temperature);
  checkRange('epsilon', epsilon, epsilon > 0 && epsilon <= 1, 'above 0 and at most 1');
  checkRange('alpha', alpha, alpha > 0 && alpha <= 1, 'above 0 and at most 1');
  const distribution = new NextTokenDistribution();
  return {
    name: 'typical',
    needsLogits: true,
    firstToken: (result) => result.nextTokens[0],
    accept(tree, result) {
      const accepted = typicalRows(tree, result, distribution, { temperature, epsilon, alpha });
      const row = bestRow(tree, accepted);
      return { rows: pathTo(tree, row), bonus: result.nextTokens[row] };
    },
  };
}

/** Follows `next` from the root for as long as it names a child. */
function descend(tree: CandidateTree, next: (row: number) => number): AcceptedPath {
  const rows = [0];
  for (let row = 0; ;) {
    const token = next(row);
    row = findChild(tree, row, token);
    if (row === -1) return { rows, bonus: token };
    rows.push(row);
  }
}

/** [size] sum of log p along each accepted path; NaN where a node or one of its ancestors was not accepted. */
function typicalRows(
  tree: CandidateTree,
  result: VerifiedRows,
  distribution: NextTokenDistribution,
  options: Required<TypicalOptions>,
): Float64Array {
  const score = new Float64Array(tree.size).fill(NaN);
  score[0] = 0;
  let loaded = -1;
  let threshold = 0;
  for (let row = 1; row < tree.size; row++) {
    const parent = tree.parents[row];
    if (Number.isNaN(score[parent])) continue;
    // Siblings mostly lie next to each other, so each accepted parent is loaded about once.
    if (parent !== loaded) {
      threshold = typicalThreshold(distribution.load(result, parent, options.temperature), options);
      loaded = parent;
    }
    const probability = distribution.probability(tree.tokens[row]);
    if (probability > threshold) score[row] = score[parent] + Math.log(probability);
  }
  return score;
}

function typicalThreshold(
  distribution: NextTokenDistribution,
  { epsilon, alpha }: Required<TypicalOptions>,
): number {
  return Math.min(epsilon, alpha * Math.exp(-distribution.entropy()));
}

/** The deepest accepted row, the most probable of equally deep ones, the first of equally probable ones. */
function bestRow(tree: CandidateTree, score: Float64Array): number {
  let best = 0;
  for (let row = 1; row < tree.size; row++) {
    const deeper = tree.depths[row] - tree.depths[best];
    if (!Number.isNaN(score[row]) && (deeper > 0 || (deeper === 0 && score[row] > score[best]))) best = row;
  }
  return best;
}

function checkTemperature(temperature: number): void {
  checkRange('temperature', temperature, temperature > 0 && temperature < Infinity, 'above 0 (0 is greedy)');
}

function checkRange(name: string, value: number, valid: boolean, range: string): void {
  if (!valid) throw new RangeError(`${name} is ${value}; it must be ${range}.`);
}
