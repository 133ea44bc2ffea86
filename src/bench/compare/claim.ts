/** The comparison in a sentence or two. */
import { factor } from '../report/table.js';
import type { IdentityResult } from './identity.js';
import type { Pair, Quotients, Report, ReportRun } from './report.js';
import type { Estimate } from './statistics.js';

type Claimed = Pick<Report, 'base' | 'runs' | 'pairs' | 'identity' | 'questions' | 'sweep'>;

export function claimOf(report: Claimed): string {
  const pair = dynamicOverStatic(report)[0] ?? report.pairs[0];
  const sentences = [
    ...(report.sweep ? [] : pair ? [comparePair(pair)] : []),
    overBase(report),
    identitySentence(report.identity),
  ];
  return sentences.filter((sentence) => sentence !== '').join(' ');
}

/** The pairs of a dynamic tree over a static one. */
export function dynamicOverStatic({ runs, pairs }: Pick<Report, 'runs' | 'pairs'>): Pair[] {
  const tree = (name: string): string | undefined => runs.find((run) => run.name === name)?.decoding.tree;
  return pairs.filter((pair) => tree(pair.run) === 'dynamic' && tree(pair.against) === 'static');
}

/** Without steps (answers of one token) there are no tokens per step to speak of. */
function comparePair({ run, against, quotients }: Pair): string {
  const { tokens_per_step: steps, tokens_per_second: speed } = quotients;
  const parts = [
    ...(Number.isFinite(steps.value) ? [`takes ${factor(steps)} as many tokens per step as ${against}`] : []),
    ...(Number.isFinite(speed.value) ? [`runs at ${factor(speed)} the tokens per second of ${against}`] : []),
  ];
  return parts.length === 0 ? '' : `${run} ${parts.join(' and ')}.`;
}

/** The run with the highest speed over the baseline; undefined when none has a speed. */
export function fastestRun(
  runs: readonly ReportRun[],
): (ReportRun & { readonly over_base: Quotients }) | undefined {
  const speed = ({ over_base }: ReportRun): number => over_base?.tokens_per_second.value ?? NaN;
  const others = runs.filter((run): run is ReportRun & { readonly over_base: Quotients } =>
    Number.isFinite(speed(run)),
  );
  return others.length === 0 ? undefined : others.reduce((a, b) => (speed(b) > speed(a) ? b : a));
}

/** The baseline in a sentence. */
export function baseline({ base }: Pick<Report, 'base'>): string {
  return base === 'plain' ? 'plain decoding' : base;
}

function overBase(report: Claimed): string {
  const { runs } = report;
  const base = baseline(report);
  const best = fastestRun(runs);
  if (best === undefined) return '';
  const speed = best.over_base.tokens_per_second;
  const others = runs.filter((run) => run.over_base !== null).length;
  const chosen = others > 3 ? ` of ${others}, chosen after the fact` : '';
  const verdict = verdictOn(speed);
  const figure = `${best.name}, at ${factor(speed)} the tokens per second of ${base}`;
  return speed.value > 1
    ? `The fastest${chosen} is ${figure}${verdict && ` (${verdict} it)`}.`
    : `No run is faster than ${base}: the nearest${chosen} is ${figure}${verdict && ` (${verdict} it)`}.`;
}

/** What the interval says; one question has none, and nothing follows from it. */
function verdictOn({ low, high }: Estimate): string {
  if (!Number.isFinite(low)) return '';
  return low > 1 ? 'faster than' : high < 1 ? 'slower than' : 'not clearly different in speed from';
}

function identitySentence(identity: readonly IdentityResult[]): string {
  const checked = identity.filter((result) => result.outcome !== 'not-checked');
  if (checked.length === 0) return '';
  const different = checked.filter((result) => result.outcome === 'different');
  if (different.length > 0)
    return `OUTPUTS DIFFER at temperature 0: ${different.map((result) => result.run).join(', ')}.`;
  return checked.every(({ isSure }) => isSure)
    ? 'At temperature 0 all outputs are identical, token for token.'
    : 'At temperature 0 no output differs here, but others may: on this machine rows depend on the rows beside them.';
}
