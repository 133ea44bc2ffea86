/**
 * The project's own question set: 80 two-turn questions in MT-Bench's eight categories, written for medusa-plus so
 * that a comparison runs offline. Not MT-Bench: numbers on the two sets are not interchangeable.
 */
import { coding } from './builtin/coding.js';
import { extraction } from './builtin/extraction.js';
import { humanities } from './builtin/humanities.js';
import { math } from './builtin/math.js';
import { reasoning } from './builtin/reasoning.js';
import { roleplay } from './builtin/roleplay.js';
import { stem } from './builtin/stem.js';
import { writing } from './builtin/writing.js';

const FIRST_ID = 1001;
const CATEGORIES = { writing, roleplay, reasoning, math, coding, extraction, stem, humanities };

/** The set as a question.jsonl, ids 1001 to 1080. */
export function builtinQuestions(): string {
  return Object.entries(CATEGORIES)
    .flatMap(([category, drafts]) => drafts.map((draft) => ({ category, ...draft })))
    .map((draft, index) => `${JSON.stringify({ question_id: FIRST_ID + index, ...draft })}\n`)
    .join('');
}
