import { join } from 'node:path';
import { loadRun, type LoadedRun } from '../bench/compare/load.js';
import { chatAddress, parseJudgeParams } from '../bench/judge/client.js';
import { judgeAnswers, referencesOf } from '../bench/judge/judge.js';
import { parseJudgePrompts } from '../bench/judge/prompts.js';
import { scoreRows, scoreTable } from '../bench/judge/scores.js';
import { checkKey } from '../bench/judge/secrets.js';
import { loadQuestions } from '../bench/questions/load.js';
import { officialFile } from '../bench/questions/official.js';
import { decodeUtf8, parseObject, parseQuestions, type QuestionSet } from '../bench/questions/parse.js';
import { keptQuestions, QUESTIONS_FILE } from '../bench/run/folder.js';
import { plainTable } from '../bench/report/table.js';
import { ExitCode, UsageError } from '../util/errors.js';
import { readRegularFile } from '../util/regularFile.js';
import { onTerminal } from '../util/terminalText.js';
import { requireText } from './benchArguments.js';
import { catchInterrupt } from './interrupt.js';
import { print, printError, printJson, writeError } from './output.js';
import { readFlag, readNumber, readText, type Arguments } from './options.js';

const TIMEOUT = 180_000;
const FIRST_PAUSE = 1000;

/** `medusa-plus bench judge`: grades a folder's answers and prints the table. */
export async function runJudge(args: Arguments): Promise<void> {
  const run = await loadRun(requireText(args, 'folder', 'name a bench folder'));
  const parallel = readNumber(args, 'parallel', { integer: true, minimum: 1, maximum: 64 }) ?? 4;
  const retries = readNumber(args, 'retries', { integer: true, minimum: 0, maximum: 100 }) ?? 6;
  const model = readText(args, 'judge') ?? environment('OPENAI_MODEL');
  if (model === undefined) throw new UsageError('Name the model that grades: --judge NAME, or OPENAI_MODEL');
  const baseUrl = readText(args, 'base-url') ?? environment('OPENAI_BASE_URL') ?? 'https://api.openai.com/v1';
  chatAddress(baseUrl);
  const params = parseJudgeParams(readText(args, 'judge-params'));
  const key = environment('OPENAI_API_KEY');
  checkKey(key, 'OPENAI_API_KEY');
  const set = await askedQuestions(args, run);
  const questions = new Map(set.questions.map((question) => [String(question.question_id), question]));
  const prompts = parseJudgePrompts(...(await fileOf(args, 'prompts', 'judgePrompts')));
  const references = await referencesFor(args, set);
  const json = readFlag(args, 'json');
  const interrupt = catchInterrupt();
  try {
    const judgments = await judgeAnswers({
      folder: run.folder,
      questions,
      answers: [...run.answers.values()],
      prompts,
      references,
      parallel,
      endpoint: {
        baseUrl,
        model,
        key,
        params,
        retries,
        pause: FIRST_PAUSE,
        timeout: TIMEOUT,
        signal: interrupt.signal,
        onNote: printError,
      },
      onJudgment: (done, total) => {
        if (process.stderr.isTTY && !json) writeError(onTerminal`\rJudged ${done} of ${total}`);
      },
    });
    if (process.stderr.isTTY && !json) writeError('\n');
    const rows = scoreRows(judgments, questions);
    if (json) printJson({ folder: run.folder, judge: model, scores: rows });
    else print(plainTable(scoreTable(rows)));
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    printError('\nInterrupted. The same command goes on from here.');
    process.exitCode = ExitCode.interrupted;
  } finally {
    interrupt.release();
  }
}

function environment(name: string): string | undefined {
  const value = process.env[name];
  return value === undefined || value === '' ? undefined : value;
}

/** The questions of the run, which its folder keeps; others than those that were asked are refused. */
async function askedQuestions(args: Arguments, { folder, info }: LoadedRun): Promise<QuestionSet> {
  const given = readText(args, 'questions');
  const kept = given === undefined ? await keptQuestions(folder) : undefined;
  const set = kept
    ? { ...parseQuestions(kept, join(folder, QUESTIONS_FILE)), name: info.questions.name }
    : await loadQuestions(given ?? info.questions.name);
  if (set.sha256 !== info.questions.sha256) {
    const name = kept ? join(folder, QUESTIONS_FILE) : set.name;
    throw new UsageError(
      `${name} is not the question file of this run (SHA-256 ${set.sha256}, the run has ${info.questions.sha256}); ` +
        'give the file that was asked as --questions',
    );
  }
  return set;
}

async function fileOf(
  args: Arguments,
  option: string,
  official: 'judgePrompts' | 'references',
): Promise<[Uint8Array, string]> {
  const given = readText(args, option) ?? 'mt-bench';
  if (given === 'mt-bench') return [await officialFile(official), `mt-bench ${option}`];
  try {
    return [await readRegularFile(given), given];
  } catch (error) {
    throw new UsageError(`--${option} ${given}: ${(error as Error).message}`, { cause: error });
  }
}

async function referencesFor(args: Arguments, set: QuestionSet): Promise<Map<string, readonly string[]>> {
  const given = readText(args, 'references');
  if (given === 'questions' || (given === undefined && set.name !== 'mt-bench')) {
    return new Map(
      set.questions.flatMap(({ question_id, reference }) =>
        reference ? [[String(question_id), reference]] : [],
      ),
    );
  }
  const [bytes, name] = await fileOf(args, 'references', 'references');
  const lines = decodeUtf8(bytes, name)
    .split('\n')
    .flatMap((line, index) => (line.trim() === '' ? [] : [parseObject(line, `${name}, line ${index + 1}`)]));
  return referencesOf(lines, name);
}
