/** The figures MEDUSA-Plus published for its own comparison, to be set beside ours. */
import { dynamicOverStatic } from '../compare/claim.js';
import type { Report } from '../compare/report.js';
import { factor, number, type Table } from './table.js';

/** Tokens per inference on MT-Bench, Vicuna-7B, 64 nodes; the notebook's is one prompt, greedy. */
const PUBLISHED = [
  ['MEDUSA-Plus: Vicuna-7B, MEDUSA-1 heads', 2.5, 2.66],
  ['MEDUSA-Plus: Vicuna-7B, MEDUSA-2 heads', 3.32, 3.51],
  ['MEDUSA-Plus: its notebook, one prompt', 2.462, 2.637],
] as const;

/** Static against dynamic, theirs and ours; undefined where this report does not compare the two. */
export function publishedTable(report: Report): Table | undefined {
  // Theirs is the product's tree; another is set beside it only where there is no such one, and named.
  const pairs = dynamicOverStatic(report);
  const pair = pairs.find(({ run }) => beyondProduct(report, run) === '') ?? pairs.at(0);
  if (!pair) return undefined;
  const [fixed, dynamic] = [pair.against, pair.run].map((name) =>
    report.runs.find((run) => run.name === name)!,
  );
  const { model } = fixed;
  const rule = beyondProduct(report, pair.run);
  const name = `here: ${model.id} ${model.precision}, ${report.questions.name}, n = ${dynamic.decoding.nodes}${rule}`;
  const ours = [fixed, dynamic].map((run) => number(run.ratios.tokens_per_inference.value));
  return {
    head: ['tokens per inference', 'static tree', 'dynamic tree', 'quotient'],
    rows: [
      ...PUBLISHED.map(([source, before, after]) => [
        source,
        String(before),
        String(after),
        `${number(after / before)}x`,
      ]),
      [name, ...ours, factor(pair.quotients.tokens_per_inference)],
    ],
  };
}

/** What a run's trees rank paths by besides the product of the heads' probabilities; '' for nothing. */
function beyondProduct(report: Report, name: string): string {
  const decoding = report.runs.find((run) => run.name === name)?.decoding;
  return [
    decoding?.joint === 'conditional' ? ', conditional joint' : '',
    ...(decoding?.draft ?? []).filter((source) => source !== 'heads').map((source) => `, ${source}`),
  ].join('');
}

/** What must be known before the two are compared. */
export const publishedNote = (ignoresEos: boolean): string =>
  'The same: the dynamic tree (the n - 1 most probable paths of the heads, n = 64 there), one inference for the prefill, ' +
  'the question format. Different: the model and its heads (theirs 7B on a GPU); their static tree is the fixed one that ' +
  "Medusa published, ours is searched on our own heads' accuracies, a stronger baseline; the reference code counts " +
  `steps from 0 and tokens past EOS, ${ignoresEos ? 'here only the latter is done (--ignore-eos)' : 'here neither is done'}; ` +
  'its head probabilities are renormalised over the top m, here ' +
  'only with --marginals top-m. They report a wall clock about 10% worse with the dynamic tree; ours is in the tables above.';
