/** What the HTML report carries along for its script: all accept lengths, and some of the trees. */
import type { LoadedRun } from '../compare/load.js';
import type { Report } from '../compare/report.js';
import type { TraceLine, TracedStep } from '../run/formats.js';

export interface PageData {
  readonly report: Report;
  /** Names of the runs in the order of their colours; the baseline is the first. */
  readonly runs: readonly string[];
  readonly generations: readonly PageGeneration[];
  readonly traces: readonly PageTrace[];
  /** Texts of token ids in the traces. */
  readonly texts: Readonly<Record<string, string>>;
}

/** Accept lengths of one turn, by run. */
export interface PageGeneration {
  readonly question: string;
  readonly category: string;
  readonly turn: number;
  /** One character a step, base 36. */
  readonly lengths: Readonly<Record<string, string>>;
}

/** Trees of one turn, by run. */
export interface PageTrace {
  readonly question: string;
  readonly category: string;
  readonly turn: number;
  readonly steps: Readonly<Record<string, readonly PageStep[]>>;
  /** New tokens of the turn, as texts, as far as the trees go. */
  readonly tokens: readonly string[];
}

export interface PageStep {
  /** Position of the root among the new tokens. */
  readonly position: number;
  readonly tokens: readonly number[];
  readonly parents: readonly number[];
  readonly probabilities: readonly number[];
  readonly accepted: readonly number[];
  readonly bonus: number;
}

/** Runs with a colour of their own; a sweep has more, which are in its own charts. */
const MOST_RUNS = 6;
/** Trees kept for each turn. */
const MOST_STEPS = 24;
/** Conversations in the step browser, the first of each category. */
const MOST_TRACES = 8;

export function pageData(report: Report, runs: readonly LoadedRun[]): PageData {
  const shown = runs.slice(0, MOST_RUNS);
  const ids = [...runs[0].records.keys()].filter((id) => runs.every((run) => run.records.has(id)));
  const traced = shown.filter((run) => run.info.decoding.tree !== 'none' && run.traces.size > 0).slice(0, 2);
  const chosen = firstOfEachCategory(
    runs[0],
    ids.filter((id) => traced.every((run) => run.traces.has(id))),
  );
  return {
    report,
    runs: shown.map((run) => run.name),
    generations: report.sweep ? [] : ids.flatMap((id) => generationsOf(shown, id)),
    traces: traced.length === 0 ? [] : chosen.flatMap((id) => tracesOf(traced, id)),
    texts: textsOf(traced, chosen),
  };
}

function firstOfEachCategory(run: LoadedRun, ids: readonly string[]): string[] {
  const seen = new Set<string>();
  return ids
    .filter((id) => {
      const { category } = run.records.get(id)!;
      return !seen.has(category) && seen.add(category);
    })
    .slice(0, MOST_TRACES);
}

function generationsOf(runs: readonly LoadedRun[], id: string): PageGeneration[] {
  const { category, repeats } = runs[0].records.get(id)!;
  return repeats[0].turns.map((_, turn) => ({
    question: id,
    category,
    turn: turn + 1,
    lengths: Object.fromEntries(
      runs.map((run) => {
        const lengths = run.records.get(id)!.repeats[0].turns[turn]?.accept_lengths ?? [];
        return [run.name, lengths.map((length) => Math.min(length, 35).toString(36)).join('')];
      }),
    ),
  }));
}

function tracesOf(runs: readonly LoadedRun[], id: string): PageTrace[] {
  const { category } = runs[0].records.get(id)!;
  const traces = runs.map((run) => run.traces.get(id)!);
  return traces[0].turns.map((_, turn) => ({
    question: id,
    category,
    turn: turn + 1,
    steps: Object.fromEntries(
      runs.map((run, index) => [
        run.name,
        (traces[index].turns[turn]?.steps ?? []).slice(0, MOST_STEPS).map(pageStep),
      ]),
    ),
    tokens: textOf(traces[0], turn),
  }));
}

/** The new tokens of a turn as its trees tell them: each step gives its root, what it accepted, and its bonus. */
function textOf(trace: TraceLine, turn: number): string[] {
  const tokens: string[] = [];
  const put = (position: number, token: number): void => {
    tokens[position] = trace.texts[String(token)] ?? `#${token}`;
  };
  for (const step of trace.turns[turn].steps.slice(0, MOST_STEPS + 8)) {
    step.accepted.forEach((row, depth) => put(step.position + depth, step.tokens[row]));
    put(step.position + step.accepted.length, step.bonus);
  }
  return Array.from(tokens, (token) => token ?? '');
}

function pageStep({ position, tokens, parents, probabilities, accepted, bonus }: TracedStep): PageStep {
  return { position, tokens, parents, probabilities, accepted, bonus };
}

/** Only the texts of tokens that are shown. */
function textsOf(runs: readonly LoadedRun[], ids: readonly string[]): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const run of runs) {
    for (const id of ids) {
      const trace = run.traces.get(id)!;
      for (const step of trace.turns.flatMap(({ steps }) => steps.slice(0, MOST_STEPS))) {
        for (const token of [...step.tokens, step.bonus])
          texts[token] = trace.texts[String(token)] ?? `#${token}`;
      }
    }
  }
  return texts;
}
