/** The tables of a comparison, as cells: the terminal, Markdown and HTML reports show the same ones. */
import type { Mismatch } from '../compare/identity.js';
import type { Report, ReportRun } from '../compare/report.js';
import { counted, estimate, factor, number, percent, shortCommit, times, type Table } from './table.js';

export function describeDecoding({ decoding }: Pick<ReportRun, 'decoding'>): string {
  const beyond = decoding.ignoreEos ? ['going on after EOS (--ignore-eos)'] : [];
  if (decoding.tree === 'none') return ['plain decoding (--tree none)', ...beyond].join(', ');
  const size = decoding.treePaths
    ? `${decoding.treePaths.length + 1} nodes from a file`
    : `n = ${decoding.nodes}`;
  const rest = [
    `K = ${decoding.headsUsed}`,
    `m = ${decoding.topM}`,
    ...(decoding.acceptance === 'auto' ? [] : [decoding.acceptance]),
    ...(decoding.joint === 'conditional' ? ['joint conditional'] : []),
    ...draftOf(decoding),
    ...(decoding.marginals === 'full' ? [] : [`marginals ${decoding.marginals}`]),
  ];
  return `${decoding.tree}, ${[size, ...rest, ...beyond].join(', ')}`;
}

/** What trees are made of, unless it is the heads alone. */
function draftOf({ tree, draft }: ReportRun['decoding']): string[] {
  const isUsual = tree === 'static' || (draft.length === 1 && draft[0] === 'heads');
  return isUsual ? [] : [`draft ${draft.join('+')}`];
}

export function overviewTable(report: Report): Table {
  return {
    head: [
      'run',
      'tokens/step',
      'tokens/inference',
      'tokens/s',
      `speed-up over ${report.base}`,
      'nodes/step',
    ],
    rows: report.runs.map((run) => [
      run.name,
      estimate(run.ratios.tokens_per_step),
      estimate(run.ratios.tokens_per_inference),
      estimate(run.ratios.tokens_per_second, 1),
      run.over_base === null ? '1x' : factor(run.over_base.tokens_per_second),
      number(run.nodes_per_step, 1),
    ]),
  };
}

export function pairTable(report: Report): Table {
  return {
    head: ['pair', 'tokens/step', 'tokens/inference', 'tokens/s', 'tokens/s (median question)'],
    rows: report.pairs.map(({ run, against, quotients }) => [
      `${run} over ${against}`,
      factor(quotients.tokens_per_step),
      factor(quotients.tokens_per_inference),
      factor(quotients.tokens_per_second),
      times(quotients.median_tokens_per_second),
    ]),
  };
}

type Cell = (run: ReportRun, row: number) => string;

/** One row a category, one column a run. */
function categoryTable(
  report: Report,
  runs: readonly ReportRun[],
  cell: Cell,
  overall: (run: ReportRun) => string,
): Table {
  const { categories } = report.runs[0];
  return {
    head: ['category', 'questions', 'T', ...runs.map((run) => run.name)],
    rows: [
      ...categories.map(({ category, questions, temperature }, row) => [
        category,
        String(questions),
        String(temperature),
        ...runs.map((run) => cell(run, row)),
      ]),
      ['all', String(report.questions.count), '', ...runs.map(overall)],
    ],
  };
}

export function stepsByCategory(report: Report): Table {
  const runs = report.runs.filter((run) => run.decoding.tree !== 'none');
  return categoryTable(
    report,
    runs,
    (run, row) => estimate(run.categories[row].tokens_per_step),
    (run) => estimate(run.ratios.tokens_per_step),
  );
}

export function speedByCategory(report: Report): Table {
  const runs = report.runs.filter((run) => run.over_base !== null);
  return categoryTable(
    report,
    runs,
    (run, row) => factor(run.categories[row].speed_up),
    (run) => factor(run.over_base!.tokens_per_second),
  );
}

const ENDINGS = {
  eos: 'by itself (EOS)',
  stop: 'at a stop text',
  length: 'at the token limit',
  context: 'at the end of the context',
  aborted: 'aborted',
} as const;

/** By how the baseline ended each turn; one row a run. */
export function endingTable({ base, runs }: Report): Table {
  return {
    head: [`${base} ended`, 'run', 'turns', 'new tokens', 'tokens/step', `speed-up over ${base}`],
    rows: runs[0].endings.flatMap(({ ending }, index) =>
      runs.map(({ name, endings }) => [
        ENDINGS[ending],
        name,
        String(endings[index].turns),
        String(endings[index].tokens),
        estimate(endings[index].tokens_per_step),
        endings[index].speed_up === null ? '1x' : factor(endings[index].speed_up),
      ]),
    ),
    numbersFrom: 2,
  };
}

export function identityTable(report: Report): Table {
  const outcomes = { same: 'identical', different: 'DIFFERENT', 'not-checked': 'not checked' } as const;
  return {
    head: [`run against ${report.base}`, 'outputs', 'conversations', 'turns', 'tokens compared', 'differ'],
    rows: report.identity.map((result) => [
      result.run,
      result.reason !== undefined
        ? `${outcomes[result.outcome]}: ${result.reason}`
        : result.outcome === 'same' && !result.isSure
          ? 'no difference found'
          : outcomes[result.outcome],
      String(result.questions),
      String(result.turns),
      String(result.tokens),
      String(result.mismatches.length),
    ]),
    numbersFrom: 2,
  };
}

/** A difference in words. */
export function describeMismatch(run: string, base: string, mismatch: Mismatch): string {
  const where = `Question ${mismatch.question_id}, turn ${mismatch.turn + 1}, new token ${mismatch.position + 1}`;
  const tokens = mismatch.tokens.map((token) => (token === null ? 'the end' : `token ${token}`));
  const explained = mismatch.explained;
  const side = (name: string, index: 0 | 1): string =>
    `  ${name}: ${tokens[index]}${explained ? `, ${JSON.stringify(explained.texts[index])}` : ''}`;
  const gap =
    explained?.gap === undefined || !explained.logits
      ? []
      : [
          `  logits ${explained.logits.map((logit) => logit.toFixed(4)).join(' and ')}: ` +
            `gap ${explained.gap.toPrecision(3)}`,
        ];
  const before = explained ? `, after ${JSON.stringify(explained.before)}` : '';
  return [`${where}${before}:`, side(base, 0), side(run, 1), ...gap].join('\n');
}

export function histogramTable(report: Report): Table {
  const runs = drafting(report);
  const longest = Math.max(1, ...runs.map((run) => run.accept_histogram.length - 1));
  return {
    head: ['tokens added by a step', ...Array.from({ length: longest }, (_, index) => String(index + 1))],
    rows: runs.map((run) => [
      run.name,
      ...Array.from({ length: longest }, (_, index) => percent(run.accept_histogram[index + 1] ?? 0)),
    ]),
  };
}

export function depthTable(report: Report): Table {
  return {
    head: ['run', 'depth', 'tree had it', 'accepted', 'accepted, given the depth above'],
    rows: drafting(report).flatMap((run) =>
      run.depths.map((row) => [
        run.name,
        String(row.depth),
        percent(row.offered),
        percent(row.reached),
        percent(row.conditional),
      ]),
    ),
  };
}

export function headTable(report: Report): Table {
  return {
    head: ['run', 'head', 'top-1', 'top-5', 'top-10', 'in the list', 'samples'],
    rows: drafting(report).flatMap((run) =>
      run.heads.map((row) => [
        run.name,
        String(row.head),
        percent(row.top1),
        percent(row.top5),
        percent(row.top10),
        percent(row.listed),
        String(row.samples),
      ]),
    ),
  };
}

export function oracleTable(report: Report): Table {
  return {
    head: ['run', 'tokens/step', 'best fixed tree in hindsight', 'oracle', 'share of what the heads offer'],
    rows: drafting(report).flatMap((run) =>
      run.oracle === null
        ? []
        : [
            [
              run.name,
              number(run.oracle.actual),
              run.oracle.best_fixed === null ? '-' : number(run.oracle.best_fixed),
              number(run.oracle.tokens_per_step),
              percent((run.oracle.actual - 1) / (run.oracle.tokens_per_step - 1)),
            ],
          ],
    ),
  };
}

export function stageTable(report: Report): Table {
  const cell = (seconds: number, perToken: number, share: number): string =>
    `${number(seconds, 1)} s, ${number(perToken, 3)} ms, ${percent(share, 0)}`;
  return {
    head: ['stage: total, per token, share', ...report.runs.map((run) => run.name)],
    rows: [
      ...report.runs[0].stages.map(({ stage }, row) => [
        stage,
        ...report.runs.map(({ stages }) =>
          cell(stages[row].seconds, stages[row].per_token_ms, stages[row].share),
        ),
      ]),
      ['all', ...report.runs.map((run) => cell(run.seconds, (run.seconds * 1000) / run.new_tokens, 1))],
    ],
  };
}

export function sweepTable(report: Report): Table | undefined {
  if (!report.sweep) return undefined;
  const { parameter, points } = report.sweep;
  return {
    head: [
      'tree',
      parameter,
      'tokens/step',
      'tokens/inference',
      'tokens/s',
      `over ${report.base}`,
      'ms/step',
    ],
    rows: points.map(({ series, value, run: name }) => {
      const run = report.runs.find((each) => each.name === name)!;
      const stepping = run.seconds - run.prefill_seconds;
      return [
        series,
        value,
        estimate(run.ratios.tokens_per_step),
        number(run.ratios.tokens_per_inference.value),
        estimate(run.ratios.tokens_per_second, 1),
        factor(run.over_base?.tokens_per_second ?? null),
        number((stepping * 1000) / run.steps),
      ];
    }),
  };
}

/** Whether the runs went on after EOS; it is the same for all runs of a comparison. */
export function ignoresEos({ runs }: Report): boolean {
  return runs[0].decoding.ignoreEos;
}

/** What was run, in one line each. */
export function setup(report: Report): string[] {
  const [{ model, machine, environment }] = report.runs;
  const temperature =
    report.protocol.temperature === 'fastchat'
      ? "FastChat's temperatures (0.7, 0.1 or 0 by category)"
      : `temperature ${report.protocol.temperature}`;
  const commit =
    environment.git_commit === null ? '' : `, commit ${shortCommit(String(environment.git_commit))}`;
  return [
    `Model ${model.id} ${model.precision}${model.heads === null ? '' : `, heads ${model.heads}`}, on ${model.provider}`,
    `${counted(report.questions.count, 'question')} of ${report.questions.name}, ${temperature}, ` +
      `at most ${report.max_new_tokens} new tokens a turn${ignoresEos(report) ? ', EOS ignored' : ''}, seed ${report.protocol.seed}` +
      (report.protocol.repeats > 1 ? `, each asked ${report.protocol.repeats} times` : '') +
      (report.protocol.raw ? ', without the chat template' : '') +
      (report.protocol.keep_drafts ? ', drafts kept from question to question' : ''),
    `${machine.cpu}, ${counted(machine.threads, 'thread')}${environment.gpu === null ? '' : `, ${String(environment.gpu)}`}; ` +
      `ONNX Runtime ${machine.onnxruntime}, Node.js ${String(environment.node)}, medusa-plus ${report.version}${commit}`,
    `Intervals: 95%, paired bootstrap over questions, ${report.bootstrap.resamples} resamples`,
  ];
}

function drafting(report: Report): readonly ReportRun[] {
  return report.runs.filter((run) => run.decoding.tree !== 'none');
}
