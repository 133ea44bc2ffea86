/**
 * Tokens per step and speed-up of finished runs, by how the first run ended each turn: texts that run into the limit are
 * often loops, and say little about ordinary answers.
 *
 *   npx tsx scripts/byEnding.ts runs/none runs/static runs/auto
 *
 * Brackets: 95%, bootstrap over questions (10000 draws, seed 0), runs paired.
 */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { RecordLine, TurnRecord } from '../src/bench/run/formats.js';
import { createRandom } from '../src/decoding/random.js';

const DRAWS = 10_000;

/** [turns] of each question. */
async function turnsOf(folder: string): Promise<Map<number | string, TurnRecord[]>> {
  const lines = (await readFile(join(folder, 'records.jsonl'), 'utf8'))
    .split('\n')
    .filter((line) => line !== '');
  const records = lines.map((line) => JSON.parse(line) as RecordLine);
  return new Map(records.map((record) => [record.question_id, record.repeats.flatMap(({ turns }) => turns)]));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** 95% interval of the quotient of the sums of pairs. */
function interval(pairs: readonly (readonly [number, number])[]): [number, number] {
  const random = createRandom(0);
  const quotients = Array.from({ length: DRAWS }, () => {
    const drawn = pairs.map(() => pairs[Math.floor(random() * pairs.length)]);
    return sum(drawn.map(([a]) => a)) / sum(drawn.map(([, b]) => b));
  }).sort((a, b) => a - b);
  return [quotients[Math.floor(0.025 * DRAWS)], quotients[Math.floor(0.975 * DRAWS)]];
}

const folders = process.argv.slice(2);
const runs = await Promise.all(folders.map(turnsOf));
const [base] = runs;
const endings = new Set([...base.values()].flat().map((turn) => turn.finish_reason));
for (const ending of endings) {
  const picked = runs.map((run) =>
    [...base].map(([id, turns]) => run.get(id)!.filter((_, i) => turns[i].finish_reason === ending)),
  );
  const own = picked[0].flat();
  console.log(`${ending}: ${own.length} turns, ${sum(own.map((turn) => turn.token_ids.length))} tokens`);
  picked.forEach((questions, index) => {
    const turns = questions.flat();
    const added = sum(turns.map((turn) => turn.token_ids.length - 1));
    const times = questions.map((each) => sum(each.map((turn) => turn.wall_ms)));
    const pairs = picked[0]
      .map((each, i) => [sum(each.map((turn) => turn.wall_ms)), times[i]] as const)
      .filter(([before]) => before > 0);
    const [low, high] = interval(pairs);
    const speed = sum(pairs.map(([before]) => before)) / sum(pairs.map(([, after]) => after));
    const cells = [
      (added / sum(turns.map((turn) => turn.steps))).toFixed(3).padStart(8),
      `${speed.toFixed(2)}x [${low.toFixed(2)}, ${high.toFixed(2)}]`,
    ];
    console.log(`  ${basename(folders[index]).padEnd(16)}${cells.join('  ')}`);
  });
}
