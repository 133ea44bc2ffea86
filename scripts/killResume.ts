/**
 * Kills a bench run with SIGKILL at random points, again and again, lets it finish, and holds its folder against that
 * of an undisturbed run: the same questions in the same order with the same tokens and counts, nothing lost or doubled.
 *
 *   node --import tsx scripts/killResume.ts [kills] [seed]
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomNumbers } from '../src/bench/compare/statistics.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const OPTIONS = [
  '--model',
  join(root, 'test/fixtures/tiny'),
  '--nodes',
  '8',
  '--temperature',
  'fastchat',
  '--quiet',
];
/** Times, and what follows from them; all else must be equal. */
const TIMES = new Set(['tstamp', 'wall_time', 'wall_ms', 'prefill_ms', 'first_token_ms', 'stage_ms']);

export interface KillOptions {
  readonly kills: number;
  readonly seed: number;
  readonly limit: number;
  readonly maxNewTokens: number;
  readonly log?: (line: string) => void;
}

/** Runs the experiment; throws when the folders differ. Returns how many finished questions each kill left. */
export async function killAndResume(options: KillOptions): Promise<number[]> {
  const folder = await mkdtemp(join(tmpdir(), 'medusa-kill-'));
  try {
    const [calm, disturbed] = [join(folder, 'calm'), join(folder, 'disturbed')];
    const duration = await run(calm, options);
    const random = randomNumbers(options.seed);
    const left: number[] = [];
    while (left.length < options.kills) {
      // Late enough that some questions get done, early enough that many kills fall into one run.
      const delay = duration * (0.2 + 0.4 * random());
      const killed = await runAndKill(disturbed, options, delay);
      left.push(await finished(disturbed));
      options.log?.(`kill ${left.length} after ${delay.toFixed(0)} ms: ${left.at(-1)} questions on disk`);
      // A run that came to its end cannot be killed any more: start again from nothing.
      if (!killed || left.at(-1) === options.limit) await rm(disturbed, { recursive: true, force: true });
    }
    await run(disturbed, options);
    for (const name of ['answers.jsonl', 'records.jsonl', 'trace.jsonl']) {
      await refuseDifference(join(calm, name), join(disturbed, name));
    }
    return left;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function start(output: string, { limit, maxNewTokens }: KillOptions): ReturnType<typeof spawn> {
  const bounds = ['--limit', String(limit), '--max-new-tokens', String(maxNewTokens)];
  return spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      join(root, 'bin/medusa-plus.ts'),
      'bench',
      ...OPTIONS,
      ...bounds,
      '--trace',
      '--output',
      output,
    ],
    { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] },
  );
}

/** Runs to the end and returns the milliseconds it took. */
async function run(output: string, options: KillOptions): Promise<number> {
  const begin = performance.now();
  const child = start(output, options);
  let errors = '';
  child.stderr!.on('data', (data: Buffer) => (errors += data.toString()));
  const code = await ended(child);
  if (code !== 0) throw new Error(`bench ended with ${code}: ${errors}`);
  return performance.now() - begin;
}

/** Returns whether the run was still going when it was killed. */
async function runAndKill(output: string, options: KillOptions, delay: number): Promise<boolean> {
  const child = start(output, options);
  const end = ended(child);
  await Promise.race([sleep(delay), end]);
  child.kill('SIGKILL');
  return (await end) !== 0;
}

function ended(child: ReturnType<typeof spawn>): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
}

async function finished(output: string): Promise<number> {
  const text = await readFile(join(output, 'answers.jsonl'), 'utf8').catch(() => '');
  return text.split('\n').length - 1;
}

async function refuseDifference(left: string, right: string): Promise<void> {
  const [a, b] = await Promise.all([readWithoutTimes(left), readWithoutTimes(right)]);
  if (a.length !== b.length) throw new Error(`${right} has ${b.length} lines instead of ${a.length}`);
  a.forEach((line, index) => {
    if (line !== b[index]) throw new Error(`${right}, line ${index + 1} differs:\n${line}\n${b[index]}`);
  });
}

async function readWithoutTimes(path: string): Promise<string[]> {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
  return lines.map((line) =>
    JSON.stringify(JSON.parse(line), (key, value: unknown) => (TIMES.has(key) ? undefined : value)),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [kills = '20', seed = '1'] = process.argv.slice(2);
  const log = (line: string): void => console.log(line);
  await killAndResume({ kills: Number(kills), seed: Number(seed), limit: 80, maxNewTokens: 48, log });
  console.log(`${kills} kills: the resumed folder equals the undisturbed one, times aside`);
}
