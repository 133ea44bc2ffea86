/** Mean ratings by category and turn. */
import type { Question } from '../questions/parse.js';
import { number, type Table } from '../report/table.js';
import type { Judgment } from './judge.js';
import { isRating } from './prompts.js';

export interface ScoreRow {
  readonly category: string;
  /** Mean by turn and over both; null without ratings. */
  readonly first: number | null;
  readonly second: number | null;
  readonly both: number | null;
  readonly ratings: number;
  /** Judgments without a rating; they are left out of the means. */
  readonly unrated: number;
}

export function scoreRows(
  judgments: readonly Judgment[],
  questions: ReadonlyMap<string, Question>,
): ScoreRow[] {
  const groups = new Map<string, Judgment[]>();
  for (const judgment of judgments) {
    const category = questions.get(String(judgment.question_id))?.category ?? 'unknown';
    groups.set(category, [...(groups.get(category) ?? []), judgment]);
  }
  return [...[...groups].map(([category, own]) => row(category, own)), row('all', judgments)];
}

function row(category: string, judgments: readonly Judgment[]): ScoreRow {
  // Files of others, and of earlier versions, have numbers that are no ratings.
  const rated = judgments.filter(({ score }) => isRating(score));
  const mean = (own: readonly Judgment[]): number | null =>
    own.length === 0 ? null : own.reduce((sum, { score }) => sum + score, 0) / own.length;
  return {
    category,
    first: mean(rated.filter(({ turn }) => turn === 1)),
    second: mean(rated.filter(({ turn }) => turn === 2)),
    both: mean(rated),
    ratings: rated.length,
    unrated: judgments.length - rated.length,
  };
}

export function scoreTable(rows: readonly ScoreRow[]): Table {
  return {
    head: ['category', 'turn 1', 'turn 2', 'both', 'ratings', 'without a rating'],
    rows: rows.map(({ category, first, second, both, ratings, unrated }) => [
      category,
      ...[first, second, both].map((mean) => number(mean ?? NaN)),
      String(ratings),
      String(unrated),
    ]),
  };
}
