import { sum } from '../../src/util/numbers.js';

export interface Turns {
  readonly ways: number;
  readonly prompts: number;
  readonly rounds: number;
  /** Told when all have answered a prompt. */
  readonly onPrompt?: (round: number, prompt: number, rates: readonly number[]) => void;
}

/**
 * Has several ways to answer take turns: all answer a prompt before the next one is asked, and each time another begins, so that a
 * slow moment of the machine hits them alike.
 *
 * @param answer returns the number of new tokens
 * @returns [ways][prompts][rounds] tokens per second
 */
export async function takeTurns(
  { ways, prompts, rounds, onPrompt }: Turns,
  answer: (way: number, prompt: number) => Promise<number>,
  rest: () => Promise<void> = async () => {},
): Promise<number[][][]> {
  const rates = Array.from({ length: ways }, () => Array.from({ length: prompts }, (): number[] => []));
  for (let round = 0; round < rounds; round++) {
    for (let prompt = 0; prompt < prompts; prompt++) {
      for (let turn = 0; turn < ways; turn++) {
        const way = (turn + prompt + round) % ways;
        await rest();
        const begin = performance.now();
        const tokens = await answer(way, prompt);
        rates[way][prompt].push((1000 * tokens) / (performance.now() - begin));
      }
      onPrompt?.(
        round,
        prompt,
        rates.map((each) => each[prompt][round]),
      );
    }
  }
  return rates;
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(sum(values.map(Math.log)) / values.length);
