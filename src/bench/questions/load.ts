/** Finds the questions a run was asked for and picks the ones it is to ask. */
import { UsageError } from '../../util/errors.js';
import { readRegularFile } from '../../util/regularFile.js';
import { builtinQuestions } from './builtin.js';
import { OFFICIAL_FILES, officialFile, type FetchPlaces } from './official.js';
import { parseQuestions, type Question, type QuestionSet } from './parse.js';

/** `builtin`, `mt-bench`, or the path of a file in FastChat's schema. */
export async function loadQuestions(spec: string, places: FetchPlaces = {}): Promise<QuestionSet> {
  if (spec === 'builtin') return parseQuestions(new TextEncoder().encode(builtinQuestions()), 'builtin');
  if (spec === 'mt-bench') return parseQuestions(await officialFile('questions', places), 'mt-bench');
  let bytes: Uint8Array;
  try {
    bytes = await readRegularFile(spec);
  } catch (error) {
    throw new UsageError(
      `--questions ${spec}: ${(error as Error).message}; give "builtin", "mt-bench" or the path of a question.jsonl`,
      { cause: error },
    );
  }
  const set = parseQuestions(bytes, spec);
  // A copy of the official file is the official file.
  return set.sha256 === OFFICIAL_FILES.questions.sha256 ? { ...set, name: 'mt-bench' } : set;
}

export interface Selection {
  /** Categories to ask; all when left out. */
  readonly categories?: readonly string[];
  /** At most this many questions, spread evenly over the categories. */
  readonly limit?: number;
  /** Part i of n (1-based) of what is left. */
  readonly shard?: Shard;
}

export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Applies categories, then the limit, then the shard; keeps the file's order. */
export function selectQuestions(set: QuestionSet, selection: Selection): readonly Question[] {
  let questions = byCategory(set, selection.categories);
  if (selection.limit !== undefined) questions = spread(questions, selection.limit);
  const { shard } = selection;
  if (shard) questions = questions.filter((_, position) => position % shard.count === shard.index - 1);
  if (questions.length === 0) {
    throw new UsageError('No question is left: loosen --categories, --limit or --shard');
  }
  return questions;
}

function byCategory(set: QuestionSet, categories: readonly string[] | undefined): readonly Question[] {
  if (categories === undefined || categories.length === 0) return set.questions;
  const known = new Set(set.questions.map((question) => question.category));
  for (const category of categories) {
    if (!known.has(category)) {
      throw new UsageError(`--categories ${category}: ${set.name} has ${[...known].join(', ')}`);
    }
  }
  return set.questions.filter((question) => categories.includes(question.category));
}

/** Takes `limit` questions round-robin over the categories, so that a short run still sees all of them. */
function spread(questions: readonly Question[], limit: number): readonly Question[] {
  const groups = new Map<string, Question[]>();
  for (const question of questions) {
    const group = groups.get(question.category);
    if (group) group.push(question);
    else groups.set(question.category, [question]);
  }
  const chosen = new Set<Question>();
  for (let rank = 0; chosen.size < Math.min(limit, questions.length); rank++) {
    for (const group of groups.values()) {
      if (rank < group.length && chosen.size < limit) chosen.add(group[rank]);
    }
  }
  return questions.filter((question) => chosen.has(question));
}

const MOST_SHARDS = 10_000;

/** Parses `i/n`. */
export function parseShard(text: string): Shard {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  const [index, count] = match ? [Number(match[1]), Number(match[2])] : [0, 0];
  if (!match || count < 1 || index < 1 || index > count || count > MOST_SHARDS) {
    throw new UsageError(`--shard ${text}: expected i/n with 1 <= i <= n <= ${MOST_SHARDS}, for example 1/4`);
  }
  return { index, count };
}
