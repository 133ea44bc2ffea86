import { expect } from 'chai';
import { explainMismatches, type Inspector } from '../../../src/bench/compare/explain.js';
import { checkIdentity, firstDifferent } from '../../../src/bench/compare/identity.js';
import { compareRuns, type LoadedRun } from '../../../src/bench/compare/load.js';
import { measureRun } from '../../../src/bench/compare/measure.js';
import { makeReport } from '../../../src/bench/compare/makeReport.js';
import { htmlReport } from '../../../src/bench/report/html.js';
import { markdownReport } from '../../../src/bench/report/markdown.js';
import { markdownTable } from '../../../src/bench/report/markdownText.js';
import type { Estimate } from '../../../src/bench/compare/statistics.js';
import { estimate, factor, plainTable } from '../../../src/bench/report/table.js';
import { terminalReport } from '../../../src/bench/report/terminal.js';
import type { RunInfo, TurnRecord } from '../../../src/bench/run/formats.js';
import { UsageError } from '../../../src/util/errors.js';
import { madeRun, madeTurn } from '../madeRuns.js';
import { Page } from '../report/reportPage.js';

const ids = ['1', '2', '3', '4'];

/** Three runs of four questions: static adds 2 tokens a step, dynamic 2 and 3 in turns. */
function threeRuns(
  change: Partial<Record<'static' | 'dynamic', (run: LoadedRun) => LoadedRun>> = {},
): LoadedRun[] {
  const none = madeRun('none', ids, () => madeTurn(Array<number>(12).fill(1), 10));
  const fixed = madeRun('static', ids, () => madeTurn(Array<number>(6).fill(2), 14));
  const dynamic = madeRun('dynamic', ids, () => madeTurn([3, 2, 3, 2, 2], 15));
  return [none, change.static?.(fixed) ?? fixed, change.dynamic?.(dynamic) ?? dynamic];
}

describe('measures', () => {
  const [none, fixed, dynamic] = threeRuns();

  it('counts steps without the prefill and inferences with it', () => {
    const { steps, inferences, new_tokens, ratios } = measureRun(dynamic, ids);
    // 4 questions x 2 turns; 13 tokens a turn: 1 of the prefill, 12 in 5 steps.
    expect([steps, inferences, new_tokens]).to.deep.equal([40, 48, 104]);
    expect(ratios.tokens_per_step.value).to.be.closeTo(12 / 5, 1e-12);
    expect(ratios.tokens_per_inference.value).to.be.closeTo(13 / 6, 1e-12);
    expect(ratios.tokens_per_second.value).to.be.closeTo(13 / 0.08, 1e-9);
    expect(ratios.decode_tokens_per_second.value).to.be.closeTo(12 / 0.075, 1e-9);
    expect(measureRun(none, ids).ratios.tokens_per_step.value).to.equal(1);
  });

  it('gives the histogram, depths, heads and oracle', () => {
    const measures = measureRun(dynamic, ids);
    expect(measures.accept_histogram).to.deep.equal([0, 0, 0.6, 0.4]);
    expect(measures.depths).to.deep.equal([
      { depth: 1, offered: 1, reached: 1, conditional: 1 },
      { depth: 2, offered: 1, reached: 0.4, conditional: 0.4 },
    ]);
    // madeTurn: head 0 always first, head 1 third in the list at odd steps, else missing.
    expect(measures.heads.map(({ top1, top5, listed }) => [top1, top5, listed])).to.deep.equal([
      [1, 1, 1],
      [0, 0.4, 0.4],
    ]);
    expect(measures.oracle!.tokens_per_step).to.be.closeTo(2.4, 1e-12);
    expect(measureRun(none, ids).oracle).to.equal(null);
  });

  it('splits the time without losing any', () => {
    const { stages, seconds, new_tokens, cost } = measureRun(fixed, ids);
    expect(stages.reduce((sum, stage) => sum + stage.seconds, 0)).to.be.closeTo(seconds, 1e-9);
    expect(stages.reduce((sum, stage) => sum + stage.share, 0)).to.be.closeTo(1, 1e-12);
    const backbone = stages.find(({ stage }) => stage === 'backbone')!;
    expect(backbone.per_token_ms).to.be.closeTo((backbone.seconds * 1000) / new_tokens, 1e-12);
    expect(cost).to.deep.equal([{ nodes: 4, steps: 48, step_ms: 14, backbone_ms: 12 }]);
  });
});

describe('identity', () => {
  const differing = (run: LoadedRun): LoadedRun => {
    const { turns } = run.records.get('2')!.repeats[0];
    turns[1].token_ids.splice(4, 1, 77);
    return run;
  };

  it('finds equal outputs equal', () => {
    const results = checkIdentity(compareRuns(threeRuns()));
    expect(results.map(({ outcome, turns, tokens }) => [outcome, turns, tokens])).to.deep.equal([
      ['same', 8, 104],
      ['same', 8, 104],
    ]);
  });

  it('finds the first difference of a conversation', () => {
    const [, result] = checkIdentity(compareRuns(threeRuns({ dynamic: differing })));
    expect(result.outcome).to.equal('different');
    expect(result.mismatches).to.have.length(1);
    const [{ question_id, turn, position, tokens, common }] = result.mismatches;
    expect({ question_id, turn, position }).to.deep.equal({ question_id: '2', turn: 1, position: 4 });
    expect(tokens).to.deep.equal([104, 77]);
    expect(common).to.deep.equal([100, 101, 102, 103]);
  });

  it('counts a longer output as different', () => {
    expect(firstDifferent([1, 2], [1, 2])).to.equal(undefined);
    expect(firstDifferent([1, 2], [1, 2, 3])).to.equal(2);
    expect(firstDifferent([], [])).to.equal(undefined);
    expect(firstDifferent([1], [2])).to.equal(0);
  });

  it('does not compare what was sampled, or another backbone', () => {
    const sampled = threeRuns().map((run) => {
      for (const record of run.records.values()) Object.assign(record.repeats[0], { temperature: 0.7 });
      return run;
    });
    expect(checkIdentity(compareRuns(sampled))[0]).to.include({ outcome: 'not-checked' });
    const other = (run: LoadedRun): LoadedRun => ({
      ...run,
      info: { ...run.info, model: { ...run.info.model, precision: 'fp32' } },
    });
    const [result] = checkIdentity(compareRuns(threeRuns({ static: other })));
    expect(result.reason).to.equal('another backbone (fp32 instead of int8)');
  });

  it('explains a difference with texts and the logit gap', async () => {
    const comparison = compareRuns(threeRuns({ dynamic: differing }));
    const results = checkIdentity(comparison);
    let asked: readonly number[] = [];
    const inspector: Inspector = {
      backbone: 'backbone',
      decode: (tokens) => tokens.join(' '),
      nextLogits: (tokens) => {
        asked = tokens;
        return Promise.resolve(Float32Array.from({ length: 200 }, (_, token) => token / 8));
      },
      dispose: () => Promise.resolve(),
    };
    expect(await explainMismatches(results, comparison, () => Promise.resolve(inspector))).to.deep.equal([]);
    expect(asked).to.deep.equal([1, 2, 3, 100, 101, 102, 103]);
    const { logits, gap, before } = results[1].mismatches[0].explained!;
    expect([logits, gap, before]).to.deep.equal([[13, 9.625], 3.375, '100 101 102 103']);
    const notes = await explainMismatches(results, comparison, () => Promise.reject(new Error('gone')));
    expect(notes[0]).to.match(/could not be opened \(gone\)/);
    const foreign = { ...inspector, backbone: 'other' };
    expect((await explainMismatches(results, comparison, () => Promise.resolve(foreign)))[0]).to.match(
      /another one/,
    );
  });
});

describe('comparisons', () => {
  it('put plain decoding first and give quotients with intervals', () => {
    const [none, fixed, dynamic] = threeRuns();
    const report = makeReport(compareRuns([dynamic, fixed, none]), '1');
    expect(report.runs.map(({ name }) => name)).to.deep.equal(['plain', 'dynamic', 'static']);
    const over = report.runs[1].over_base!;
    expect(over.tokens_per_step.value).to.be.closeTo(2.4, 1e-12);
    // 13 tokens in 5 + 5 x 15 ms against 5 + 12 x 10 ms
    expect(over.tokens_per_second.value).to.be.closeTo(125 / 80, 1e-9);
    expect(over.median_tokens_per_second).to.be.closeTo(125 / 80, 1e-9);
    expect(report.pairs.map(({ run, against }) => `${run}/${against}`)).to.deep.equal(['static/dynamic']);
  });

  it('say it in a sentence', () => {
    const { claim } = makeReport(compareRuns(threeRuns()), '1');
    expect(claim).to.equal(
      'dynamic takes 1.20x [1.20, 1.20] as many tokens per step as static and runs at 1.11x [1.11, 1.11] the ' +
        'tokens per second of static. The fastest is dynamic, at 1.56x [1.56, 1.56] the tokens per second of plain decoding (faster than it). ' +
        'At temperature 0 all outputs are identical, token for token.',
    );
  });

  it('call outputs identical only where rows are exact on the machine', () => {
    const runs = threeRuns();
    const inexact = { ...runs[1].info, environment: { ...runs[1].info.environment, exact_rows: 'no' } };
    const report = makeReport(compareRuns([runs[0], { ...runs[1], info: inexact }, runs[2]]), '1');
    expect(report.claim).to.include('no output differs here, but others may').and.not.include('identical');
    expect(terminalReport(report).text).to.include('no difference found').and.include('identical');
    expect(htmlReport(report, runs)).to.include('no difference<');
  });

  it('claim no speed-up where there is none', () => {
    const slow = threeRuns().map((run, index) =>
      index === 0 ? run : madeRun(run.name as 'static', ids, () => madeTurn([2, 2, 2, 2, 2, 2], 60 + index)),
    );
    const report = makeReport(compareRuns(slow), '1');
    expect(report.claim).to.include(
      'No run is faster than plain decoding: the nearest is static, at 0.34x [0.34, 0.34] the tokens per second of plain decoding (slower than it).',
    );
    expect(report.claim).to.not.include('fastest');
    const points = slow.slice(1).map(({ name }) => ({ series: 'x', value: name, run: name }));
    const swept = makeReport(compareRuns(slow), '1', { parameter: 'nodes', points });
    expect(htmlReport(swept, slow)).to.include('nearest to plain: static').and.not.include('fastest');
  });

  for (const [name, given, lengths] of [
    ['one question', ['1'], [3, 2, 3, 2, 2]],
    ['answers of one token', ids, []],
    ['one question of one token', ['1'], []],
  ] as const) {
    it(`say what they can of ${name}, and nothing as a number that is none`, () => {
      const plain = lengths.flatMap((length) => Array<number>(length).fill(1));
      const runs = [
        madeRun('none', given, () => madeTurn(plain, 10)),
        madeRun('static', given, () => madeTurn(lengths, 14)),
        madeRun('dynamic', given, () => madeTurn(lengths, 15)),
      ];
      const report = makeReport(compareRuns(runs), '1');
      // One question has no interval: nothing follows for others.
      if (given.length === 1) expect(report.claim).to.not.match(/clearly|\(|\[/);
      expect(report.claim.includes('tokens per step')).to.equal(lengths.length > 0);
      const html = htmlReport(report, runs);
      const page = new Page(html).run();
      const drawn = [...page.elements.values()].map(({ innerHTML }) => innerHTML);
      const script = html.slice(html.lastIndexOf('<script>'));
      for (const text of [
        report.claim,
        terminalReport(report).text,
        markdownReport(report),
        html.replace(script, ''),
        ...drawn,
      ]) {
        expect(text).to.not.match(/NaN|Infinity|undefined|(^|[\s>])-x/);
      }
    });
  }

  it('use the questions all runs have, and say so', () => {
    const fewer = (run: LoadedRun): LoadedRun => {
      (run.records as Map<string, unknown>).delete('3');
      return run;
    };
    const comparison = compareRuns(threeRuns({ dynamic: fewer }));
    expect(comparison.ids).to.deep.equal(['1', '2', '4']);
    expect(comparison.notes.join()).to.match(/plain, static: 4 questions, of which 3 are in all runs/);
  });

  describe('from sessions', () => {
    const session = (from: string, to: string | null, git_commit?: string): RunInfo['sessions'][number] => ({
      started: `2026-01-01T${from}:00Z`,
      ended: to && `2026-01-01T${to}:00Z`,
      finished_questions: to === null ? 0 : 4,
      load_average: 0,
      git_commit,
    });
    const notesWith = (...sessions: RunInfo['sessions'][]): string =>
      compareRuns(
        threeRuns().map((run, index) => ({ ...run, info: { ...run.info, sessions: sessions[index] } })),
      ).notes.join('\n');
    const apart = /were not interleaved: their times are comparable only if the machine was equally calm/;

    it('that lie apart in time say that they were not interleaved', () => {
      const one = session('10:00', '11:00');
      expect(notesWith([one], [session('10:30', '11:30')], [one])).to.not.match(apart);
      expect(notesWith([one], [one], [session('11:01', '11:30')])).to.match(apart);
      // A kill left no end, and a session that finished nothing says nothing.
      expect(notesWith([session('10:00', null)], [session('11:01', '11:30')], [one])).to.match(apart);
      const idle = { ...session('11:01', '11:30'), finished_questions: 0 };
      expect(notesWith([one, idle], [one], [session('11:01', '11:30')])).to.match(apart);
    });

    it('of different commits name them', () => {
      const [a, b] = ['a'.repeat(40), `${'b'.repeat(40)} with changes`];
      const [old, first, second] = [undefined, a, b].map((commit) => session('10:00', '11:00', commit));
      expect(notesWith([first], [first], [old])).to.not.include('commit');
      expect(notesWith([first, second], [first], [old])).to.include(
        'The runs come from different commits: plain aaaaaaaaaaaa and bbbbbbbbbbbb with changes, ' +
          'static aaaaaaaaaaaa, dynamic unknown.',
      );
    });

    it('on a busy machine say so once', () => {
      const [calm, busy, busier] = [0.5, 1.5, 2].map((load_average) => ({
        ...session('10:00', '11:00'),
        load_average,
      }));
      expect(notesWith([busy], [calm], [busier])).to.equal(
        'plain, dynamic: the machine was busy at the start (load average 1.5 to 2).',
      );
    });
  });

  it('of runs of different versions name these', () => {
    const newer = (run: LoadedRun): LoadedRun => ({ ...run, info: { ...run.info, version: '2' } });
    expect(compareRuns(threeRuns()).notes.join()).to.not.include('versions');
    expect(compareRuns(threeRuns({ dynamic: newer })).notes).to.include(
      'The runs come from different versions of medusa-plus: plain 1, static 1, dynamic 2.',
    );
  });

  it('call runs of one name by as much of their folders as tells them apart', () => {
    const named = threeRuns().map((run, index) => ({
      ...run,
      name: index === 0 ? 'plain' : 'same',
      folder: `/a/b/${index}/same`,
    }));
    expect(compareRuns(named).runs.map(({ name }) => name)).to.deep.equal(['plain', '1/same', '2/same']);
  });

  it('refuse runs that are not comparable', () => {
    const other =
      (change: object) =>
      (run: LoadedRun): LoadedRun => ({ ...run, info: { ...run.info, ...change } });
    const questions = { name: 'q', sha256: 'other', ids: [] };
    expect(() => compareRuns(threeRuns({ static: other({ questions }) }))).to.throw(
      UsageError,
      /questions.sha256/,
    );
    const decoding = { tree: 'static', maxNewTokens: 99 };
    expect(() => compareRuns(threeRuns({ static: other({ decoding }) }))).to.throw(
      UsageError,
      /decoding.maxNewTokens/,
    );
    expect(() => compareRuns(threeRuns().slice(0, 1))).to.throw(UsageError, /at least two/);
  });

  it('make reports that agree with each other', () => {
    const runs = threeRuns();
    const report = makeReport(compareRuns(runs), '1');
    const texts = [terminalReport(report).text, markdownReport(report), htmlReport(report, runs)];
    for (const text of texts) {
      expect(text).to.include('2.40 [2.40, 2.40]');
      expect(text).to.include('1.56x [1.56, 1.56]');
      expect(text).to.include('writing');
    }
    expect(JSON.parse(JSON.stringify(report))).to.have.property('claim', report.claim);
  });

  it('say whether tokens after EOS are counted', () => {
    const textsWith = (ignoreEos: boolean): string[] => {
      const runs = threeRuns().map((run) => {
        const decoding = { ...run.info.decoding, ignoreEos };
        return { ...run, info: { ...run.info, decoding } };
      });
      const report = makeReport(compareRuns(runs), '1');
      return [terminalReport(report).text, markdownReport(report), htmlReport(report, runs)];
    };
    for (const text of textsWith(true)) {
      expect(text).to.include('13 new tokens a turn, EOS ignored');
      expect(text).to.include('plain decoding (--tree none), going on after EOS (--ignore-eos)');
      expect(text).to.not.match(/here neither is done|nothing after it/);
    }
    const usual = textsWith(false);
    for (const text of usual) expect(text).to.not.match(/EOS ignored|--ignore-eos/);
    expect(usual[2]).to.include('here neither is done').and.include('EOS is counted, nothing after it.');
  });

  it('set the published figures beside static and dynamic', () => {
    const text = markdownReport(makeReport(compareRuns(threeRuns()), '1'));
    expect(text).to.include('| MEDUSA-Plus: Vicuna-7B, MEDUSA-1 heads | 2.5 | 2.66 | 1.06x |');
    // 13 tokens in 6 + 1 and in 5 + 1 inferences
    expect(text).to.include('| here: made int8, builtin, n = 4 | 1.86 | 2.17 | 1.17x [1.17, 1.17] |');
  });

  it('set a tree of the product beside the published one when there is one, else name the joint', () => {
    const runs = threeRuns();
    const conditional = (run: LoadedRun): LoadedRun => ({
      ...run,
      name: 'corrected',
      info: { ...run.info, decoding: { ...run.info.decoding, joint: 'conditional' } },
    });
    const text = (given: LoadedRun[]): string => markdownReport(makeReport(compareRuns(given), '1'));
    const [none, fixed, dynamic] = runs;
    expect(text([none, fixed, conditional(dynamic)])).to.include(
      '| here: made int8, builtin, n = 4, conditional joint |',
    );
    expect(text([none, fixed, conditional(dynamic), dynamic])).to.include(
      '| here: made int8, builtin, n = 4 | 1.86 |',
    );
  });

  it('draw sweeps', () => {
    const runs = threeRuns();
    const points = [
      { series: 'dynamic', value: '4', run: 'static' },
      { series: 'dynamic', value: '8', run: 'dynamic' },
    ];
    const report = makeReport(compareRuns(runs), '1', { parameter: 'nodes', points });
    expect(markdownReport(report)).to.match(/\| dynamic \| 4 \| 2.00 \[2.00, 2.00\]/);
    expect(htmlReport(report, runs)).to.include('chart-sweep-speed');
  });
});

describe('turns by how the baseline ended them', () => {
  /** Turn 1 is long and turn 2 short; plain decoding ends turn 1 by itself, but for question 4's. */
  function twoRuns(): LoadedRun[] {
    const none = madeRun('none', ids, () => madeTurn([], 1));
    const fixed = madeRun('static', ids, () => madeTurn([], 1));
    for (const id of ids) {
      const ones = (count: number): TurnRecord => madeTurn(Array<number>(count).fill(1), 10);
      // 5 + 12 x 10 and 5 + 6 x 10 ms; 13 and 7 tokens
      const plain = [ones(12), ones(6)];
      Object.assign(none.records.get(id)!.repeats[0], { turns: plain });
      // 5 + 6 x 14 and 5 + 2 x 20 ms
      const drafted = [madeTurn([2, 2, 2, 2, 2, 2], 14), madeTurn([3, 3], 20)];
      Object.assign(fixed.records.get(id)!.repeats[0], { turns: drafted });
      if (id !== '4') Object.assign(plain[0], { finish_reason: 'eos' });
    }
    return [none, fixed];
  }

  it('count, and give tokens per step and speed-up, of those turns alone', () => {
    const [plain, fixed] = makeReport(compareRuns(twoRuns()), '1').runs.map(({ endings }) => endings);
    const counts = (rows: typeof plain): unknown => rows.map((row) => [row.ending, row.turns, row.tokens]);
    expect(counts(plain)).to.deep.equal([
      ['eos', 3, 3 * 13],
      ['length', 5, 4 * 7 + 13],
    ]);
    expect(counts(fixed)).to.deep.equal(counts(plain));
    expect(plain.map((row) => [row.tokens_per_step.value, row.speed_up])).to.deep.equal([
      [1, null],
      [1, null],
    ]);
    const close = ({ value, low, high }: Estimate, ...expected: number[]): void =>
      [value, low, high].forEach((each, index) => expect(each).to.be.closeTo(expected[index], 1e-12));
    const [eos, length] = fixed;
    // The questions are alike, so there is no spread.
    close(eos.tokens_per_step, 2, 2, 2);
    close(eos.speed_up!, 125 / 89, 125 / 89, 125 / 89);
    // Question 4 gives 18 tokens in 8 steps, the others 6 in 2. A resample has it 0 times in 32%, 3 times in 4.7%, 4
    // times in 0.4% of the cases: 2.5% fall on 3 times, 97.5% on 0 times.
    close(length.tokens_per_step, 36 / 14, (6 + 3 * 18) / (2 + 3 * 8), 3);
    close(length.speed_up!, (4 * 65 + 125) / (4 * 45 + 89), (65 + 3 * 190) / (45 + 3 * 134), 65 / 45);
  });

  it('stand in every report', () => {
    const runs = twoRuns();
    const report = makeReport(compareRuns(runs), '1');
    const row = ['by itself (EOS)', 'static', '3', '39', '2.00 [2.00, 2.00]', '1.40x [1.40, 1.40]'];
    expect(markdownReport(report)).to.include(`| ${row.join(' | ')} |`);
    expect(htmlReport(report, runs)).to.include(row.slice(2).join('</td><td>'));
    expect(terminalReport(report).text).to.match(new RegExp(row.join(' +').replace(/[()[\].]/g, '\\$&')));
  });

  it('follow what was sampled turn by turn, each repeat by its own ending', () => {
    const runs = twoRuns();
    for (const { records } of runs) {
      const { repeats } = records.get('4')!;
      repeats.push({ ...repeats[0], index: 1, turns: repeats[0].turns.map((turn) => ({ ...turn })) });
    }
    Object.assign(runs[0].records.get('4')!.repeats[1].turns[1], { finish_reason: 'stop' });
    const [, fixed] = makeReport(compareRuns(runs), '1').runs;
    expect(fixed.endings.map(({ ending, turns, tokens }) => [ending, turns, tokens])).to.deep.equal([
      ['eos', 3, 39],
      ['stop', 1, 7],
      ['length', 6, 4 * 7 + 2 * 13],
    ]);
  });
});

describe('tables', () => {
  it('align and escape', () => {
    const table = {
      head: ['a', 'n'],
      rows: [
        ['x|y', '1'],
        ['z', '100'],
      ],
    };
    expect(plainTable(table)).to.equal('a      n\n───  ───\nx|y    1\nz    100');
    expect(markdownTable(table).text).to.equal('| a | n |\n|---|---:|\n| x\\|y | 1 |\n| z | 100 |');
  });

  it('show intervals only where there are any', () => {
    expect(estimate({ value: 1.5, low: NaN, high: NaN })).to.equal('1.50');
    expect(factor({ value: 1.5, low: 1.25, high: 2 })).to.equal('1.50x [1.25, 2.00]');
    expect(factor(null)).to.equal('-');
  });
});
