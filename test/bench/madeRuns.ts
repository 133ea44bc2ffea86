/** Runs made up for tests, with numbers that can be worked out by hand. */
import type { LoadedRun } from '../../src/bench/compare/load.js';
import type { RecordLine, RunInfo, TraceLine, TurnRecord } from '../../src/bench/run/formats.js';
import { madeDecoding } from './madeDecoding.js';

const PREFILL = 5;

/** A turn whose steps add `lengths` tokens and take `stepTime` ms each, 2 of them outside the backbone. */
export function madeTurn(lengths: readonly number[], stepTime: number): TurnRecord {
  const tokens = 1 + lengths.reduce((sum, length) => sum + length, 0);
  const plain = lengths.every((length) => length === 1);
  const fill = (value: number): number[] => lengths.map(() => value);
  return {
    prompt_tokens: 3,
    prompt_token_ids: [1, 2, 3],
    cached_prompt_tokens: 0,
    token_ids: Array.from({ length: tokens }, (_, index) => 100 + index),
    finish_reason: 'length',
    steps: lengths.length,
    accept_lengths: [...lengths],
    node_counts: fill(plain ? 1 : 4),
    tree_depths: fill(plain ? 0 : 2),
    accepted_depths: lengths.map((length) => length - 1),
    heads: plain ? 0 : 2,
    head_ranks: plain ? [] : lengths.flatMap((length) => [0, length > 2 ? 2 : -1]),
    prefill_ms: PREFILL,
    first_token_ms: PREFILL,
    wall_ms: PREFILL + lengths.length * stepTime,
    stage_ms: {
      heads: fill(1),
      tree: fill(0),
      backbone: fill(stepTime - 2),
      accept: fill(0),
      keep: fill(1),
      rest: fill(0),
    },
  };
}

export function madeRun(
  tree: 'none' | 'static' | 'dynamic',
  ids: readonly string[],
  turn: () => TurnRecord,
): LoadedRun {
  const records = ids.map((id, index): RecordLine => ({
    question_id: Number(id),
    category: index < 2 ? 'writing' : 'math',
    repeats: [{ index: 0, temperature: 0, seeds: [0, 0], turns: [turn(), turn()] }],
  }));
  return {
    name: tree === 'none' ? 'plain' : tree,
    folder: `/runs/${tree}`,
    info: madeInfo(tree, ids),
    records: new Map(records.map((record) => [String(record.question_id), record])),
    answers: new Map(
      ids.map((id) => [id, { question_id: id, answer_id: '', model_id: '', choices: [], tstamp: 0 }]),
    ),
    traces:
      tree === 'none' ? new Map<string, TraceLine>() : new Map(ids.map((id) => [id, madeTrace(id, tree)])),
  };
}

/** Two steps of small trees; one token's text would end a script element if it were not escaped. */
function madeTrace(id: string, tree: string): TraceLine {
  const steps = [
    {
      tokens: [100, 101, 200, 102],
      parents: [-1, 0, 0, 1],
      probabilities: [1, 0.6, 0.2, 0.3],
      accepted: [0, 1, 3],
      bonus: 103,
      position: 0,
    },
    {
      tokens: [103, 104, 201],
      parents: [-1, 0, 1],
      probabilities: [1, 0.05, 0.01],
      accepted: [0],
      bonus: 104,
      position: 3,
    },
  ];
  const texts = {
    '100': tree,
    '101': '</script><b>',
    '102': ' two',
    '103': '\n',
    '104': '"&',
    '200': ' no',
    '201': 'x',
  };
  return { question_id: Number(id), turns: [{ steps }, { steps }], texts };
}

function madeInfo(tree: 'none' | 'static' | 'dynamic', ids: readonly string[]): RunInfo {
  const hashes = {
    backbone_sha256: 'backbone',
    heads_sha256: 'h',
    tokenizer_sha256: 't',
    chat_template: null,
    source_sha256: 's',
  };
  return {
    format: 1,
    version: '1',
    model: { id: 'made', precision: 'int8', provider: 'cpu', heads: 'x', ...hashes },
    decoding: madeDecoding({ tree, nodes: 4, headsUsed: 2, topM: 8, maxNewTokens: 13 }),
    protocol: {
      temperature: 0,
      seed: 0,
      repeats: 1,
      shard: null,
      keep_drafts: false,
      raw: false,
      thinking: null,
      trace: true,
      model_id: `made-${tree}`,
    },
    questions: { name: 'builtin', sha256: 'abc', ids: ids.map(Number) },
    machine: { cpu: 'a CPU', threads: 1, onnxruntime: '1' },
    status: 'complete',
    environment: { git_commit: null, gpu: null, node: 'v20', command: 'compare' },
    cost_curve: [1, 2, 4, 8].map((nodes) => ({ nodes, milliseconds: 8 + nodes })),
    sessions: [{ started: 'now', ended: 'then', finished_questions: 4, load_average: 0 }],
  };
}
