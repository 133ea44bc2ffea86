/** The comparison in a sentence or two. */
import type { IdentityResult } from './identity.js';
import type { Pair, Report, ReportRun } from './report.js';
import type { Estimate } from './statistics.js';

type Claimed = Pick<Report, 'base' | 'runs' | 'pairs' | 'identity' | 'questions' | 'sweep'>;

export function claimOf(report: Claimed): string {
  const pair = report.pairs.find(isDynamicOverStatic(report)) ?? report.pairs[0];
  const sentences = [
    ...(report.sweep ? [] : pair ? [comparePair(pair)] : []),
    overBase(report),
    identitySentence(report.identity),
  ];
  return sentences.filter((sentence) => sentence !== '').join(' ');
}

function isDynamicOverStatic({ runs }: Claimed): (pair: Pair) => boolean {
  const tree = (name: string): string | undefined => runs.find((run) => run.name === name)?.decoding.tree;
  return (pair) => tree(pair.run) === 'dynamic' && tree(pair.against) === 'static';
}

function comparePair({ run, against, quotients }: Pair): string {
  return (
    `${run} takes ${times(quotients.tokens_per_step)} as many tokens per step as ${against} ` +
    `and runs at ${times(quotients.tokens_per_second)} its tokens per second.`
  );
}

function overBase({ runs, base }: Claimed): string {
  const others = runs.filter((run): run is ReportRun & { over_base: object } => run.over_base !== null);
  if (others.length === 0) return '';
  const best = others.reduce((a, b) =>
    b.over_base.tokens_per_second.value > a.over_base.tokens_per_second.value ? b : a,
  );
  const speed = best.over_base.tokens_per_second;
  const kind =
    speed.low > 1 ? 'faster than' : speed.high < 1 ? 'slower than' : 'not clearly different in speed from';
  const chosen = others.length > 3 ? ` of ${others.length}, chosen after the fact` : '';
  return `The fastest${chosen} is ${best.name}, at ${times(speed)} the tokens per second of ${base} (${kind} it).`;
}

function identitySentence(identity: readonly IdentityResult[]): string {
  const checked = identity.filter((result) => result.outcome !== 'not-checked');
  if (checked.length === 0) return '';
  const different = checked.filter((result) => result.outcome === 'different');
  return different.length === 0
    ? 'At temperature 0 all outputs are identical, token for token.'
    : `OUTPUTS DIFFER at temperature 0: ${different.map((result) => result.run).join(', ')}.`;
}

/** "1.08x [1.06, 1.10]" */
export function times({ value, low, high }: Estimate): string {
  return `${value.toFixed(2)}x [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}
