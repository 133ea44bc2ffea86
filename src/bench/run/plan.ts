/** What a run asks, at which temperature and with which random numbers: fixed before anything runs. */
import { createHash } from 'node:crypto';
import type { AcceptanceName } from '../../decoding/types.js';
import type { PromptOptions } from '../../engine/options/generateOptions.js';
import type { Question, QuestionId } from '../questions/parse.js';

/** A number for all questions, or FastChat's table by category. */
export type TemperatureRule = number | 'fastchat';

/** FastChat's temperatures; a category it does not know gets 0.7, as there. */
const FASTCHAT_TEMPERATURES: Readonly<Record<string, number>> = {
  writing: 0.7,
  roleplay: 0.7,
  extraction: 0,
  math: 0,
  coding: 0,
  reasoning: 0,
  stem: 0.1,
  humanities: 0.1,
};

export interface RunPlan {
  readonly questions: readonly Question[];
  readonly temperature: TemperatureRule;
  readonly seed: number;
  readonly repeats: number;
  /** Give the questions without the chat template, turns and answers a line apart. */
  readonly raw?: boolean;
  readonly thinking?: PromptOptions['thinking'];
  /** Keep what drafts learn from question to question. Else each begins without, and the order does not matter. */
  readonly keepDrafts?: boolean;
  /** What to do with a question that cannot be asked. Default skip. */
  readonly onError?: OnError;
}

export type OnError = 'skip' | 'stop';

export function temperatureOf(rule: TemperatureRule, category: string): number {
  return rule === 'fastchat' ? (FASTCHAT_TEMPERATURES[category] ?? 0.7) : rule;
}

/** Temperature 0 is greedy whatever was asked for above it. */
export function acceptanceOf(asked: string, temperature: number): AcceptanceName {
  if (temperature === 0) return 'greedy';
  return asked === 'auto' || asked === 'greedy' ? 'sampling' : (asked as AcceptanceName);
}

/** The seed of one turn: a function of what is asked, not of when or by which process. */
export function turnSeed(seed: number, id: QuestionId, repeat: number, turn: number): number {
  return digest(`seed ${seed} ${String(id)} ${repeat} ${turn}`).readUInt32LE(0);
}

/** An answer id in the form of FastChat's (22 characters), the same whenever the same question is answered. */
export function answerId(modelId: string, seed: number, id: QuestionId): string {
  return digest(`answer ${modelId} ${seed} ${String(id)}`)
    .toString('base64')
    .replace(/[+/=]/g, '')
    .slice(0, 22)
    .padEnd(22, '0');
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
