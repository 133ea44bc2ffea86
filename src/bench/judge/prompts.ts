/** Judge prompts in FastChat's format, and how a question and its answers go into them. */
import { UsageError } from '../../util/errors.js';
import { decodeUtf8, parseObject } from '../questions/parse.js';

export interface JudgePrompt {
  readonly name: string;
  readonly system_prompt: string;
  readonly prompt_template: string;
}

/** The four prompts of single-answer grading. */
export interface JudgePrompts {
  readonly plain: JudgePrompt;
  readonly plainSecondTurn: JudgePrompt;
  readonly reference: JudgePrompt;
  readonly referenceSecondTurn: JudgePrompt;
}

const NAMES: Record<keyof JudgePrompts, string> = {
  plain: 'single-v1',
  plainSecondTurn: 'single-v1-multi-turn',
  reference: 'single-math-v1',
  referenceSecondTurn: 'single-math-v1-multi-turn',
};

export function parseJudgePrompts(bytes: Uint8Array, name: string): JudgePrompts {
  const found = new Map<string, JudgePrompt>();
  decodeUtf8(bytes, name)
    .split('\n')
    .forEach((line, index) => {
      if (line.trim() === '') return;
      const prompt = parseObject(line, `${name}, line ${index + 1}`) as unknown as JudgePrompt;
      if (typeof prompt.name === 'string') found.set(prompt.name, prompt);
    });
  const pick = (key: keyof JudgePrompts): JudgePrompt => {
    const prompt = found.get(NAMES[key]);
    if (typeof prompt?.system_prompt !== 'string' || typeof prompt.prompt_template !== 'string') {
      throw new UsageError(
        `${name} has no prompt "${NAMES[key]}" with system_prompt and prompt_template; ` +
          "expected FastChat's judge_prompts.jsonl",
      );
    }
    return prompt;
  };
  return {
    plain: pick('plain'),
    plainSecondTurn: pick('plainSecondTurn'),
    reference: pick('reference'),
    referenceSecondTurn: pick('referenceSecondTurn'),
  };
}

/** Puts values into a template of Python's `format`: {name}, with {{ and }} for braces. Values are not searched again. */
export function fillTemplate(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{\{|\}\}|\{(\w+)\}/g, (match, name?: string) => {
    if (name === undefined) return match[0];
    if (!(name in values)) throw new UsageError(`The judge prompt asks for {${name}}, which is not known`);
    return values[name];
  });
}

/** FastChat's score of a judgment without a rating. */
export const NO_RATING = -1;

/**
 * The rating in a judgment: [[7.5]]; else "Rating: [7.5]", or [7.5] as a line of its own (other single brackets are
 * citations). -1 where there is none from 1 to 10. What a model thought before it judged does not count.
 */
export function ratingOf(judgment: string): number {
  const said = judgment.replace(/^.*<\/think(?:ing)?>/s, '').replace(/<think(?:ing)?>.*$/s, '');
  // Bounded repeats: a hostile answer must not make the search slow.
  const match =
    /\[\[(\d{1,6}(?:\.\d{0,6})?)\]\]/.exec(said) ??
    /\b(?:rating|score)[ :*_"]{0,9}\[(\d{1,6}(?:\.\d{0,6})?)\]/i.exec(said) ??
    /^[ \t*_]{0,9}\[(\d{1,6}(?:\.\d{0,6})?)\][ \t*_.]{0,9}$/m.exec(said);
  const rating = match ? Number(match[1]) : NO_RATING;
  return isRating(rating) ? rating : NO_RATING;
}

export function isRating(score: number): boolean {
  return score >= 1 && score <= 10;
}
