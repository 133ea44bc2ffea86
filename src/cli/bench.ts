import type { Argv, CommandModule, Options } from 'yargs';
import { promptTable } from '../engine/options/generateOptions.js';
import { decodingTable } from '../engine/options/decodingOptions.js';
import { modelTable } from '../engine/options/modelOptions.js';
import { addOptions, flag, optionSpecs, valued, type Arguments } from './options.js';

const questionGroup = 'Questions:';
const outputGroup = 'Output:';

/** What the table does not have: options of `bench` and `compare` alone. */
const questionOptionSpecs: Record<string, Options> = {
  questions: valued(
    questionGroup,
    'builtin, mt-bench (fetched once from its public home), or a file in the schema of FastChat',
    'builtin',
  ),
  categories: valued(questionGroup, 'Only these categories, separated by commas', 'all'),
  limit: valued(questionGroup, 'At most this many questions, spread over the categories', 'all'),
  repeat: valued(questionGroup, 'Ask each question this many times', '1'),
  'on-error': {
    ...valued(
      questionGroup,
      'A question that cannot be asked (too long, for example): skip it, or stop',
      'skip',
    ),
    choices: ['skip', 'stop'],
  },
  'keep-drafts': flag(
    questionGroup,
    'Keep what drafts learn from question to question; else each begins without, and their order does not matter',
  ),
  output: valued(outputGroup, 'Folder of the results; an unfinished one is continued', 'runs/<time>-<what>'),
  quiet: flag(outputGroup, 'No progress and no table'),
  json: flag(outputGroup, 'Print one JSON object instead of tables'),
};

/** Options of a run, but for those of the model. */
export function runOptionSpecs(command: 'bench' | 'compare'): Record<string, Options> {
  return {
    ...optionSpecs(command, decodingTable),
    ...optionSpecs(command, promptTable),
    ...questionOptionSpecs,
  };
}

export function addRunOptions<T>(yargs: Argv<T>, command: 'bench' | 'compare'): Argv<T> {
  return addOptions(yargs, { ...optionSpecs(command, modelTable), ...runOptionSpecs(command) });
}

const mergeCommand: CommandModule<object, Arguments> = {
  command: 'merge <folders..>',
  describe: 'Put the shards of one run together',
  builder: (yargs) =>
    yargs
      .positional('folders', { describe: 'Folders made with --shard', type: 'string', array: true })
      .options({
        output: { describe: 'New folder', requiresArg: true, demandOption: true },
        unfinished: flag(
          undefined,
          'Take what there is: finished questions of stopped runs, shards without the missing ones',
        ),
      })
      .strict(),
  handler: async (args) => (await import('./runBench.js')).runMerge(args),
};

const judgeCommand: CommandModule<object, Arguments> = {
  command: 'judge <folder>',
  describe: 'Have the answers of a run graded by a model behind an OpenAI-compatible endpoint',
  builder: (yargs) =>
    yargs
      .positional('folder', { describe: 'A bench folder', type: 'string' })
      .options({
        judge: { describe: 'Model that grades; also OPENAI_MODEL', requiresArg: true },
        'base-url': {
          describe: 'Endpoint up to /v1; also OPENAI_BASE_URL',
          requiresArg: true,
          defaultDescription: 'https://api.openai.com/v1',
        },
        'judge-params': {
          describe: 'JSON object of further request fields; null leaves one out',
          requiresArg: true,
          defaultDescription: '{"temperature": 0, "max_tokens": 2048}',
        },
        prompts: {
          describe: 'File of judge prompts, or mt-bench',
          requiresArg: true,
          defaultDescription: 'mt-bench',
        },
        references: {
          describe: 'File of reference answers, mt-bench, or questions (those of the question file)',
          requiresArg: true,
          defaultDescription: 'mt-bench for mt-bench, else questions',
        },
        questions: {
          describe: 'The questions that were asked',
          requiresArg: true,
          defaultDescription: 'those kept in the folder',
        },
        parallel: { describe: 'Requests at a time', requiresArg: true, defaultDescription: '4' },
        retries: { describe: 'Tries after a failed request', requiresArg: true, defaultDescription: '6' },
        json: flag(undefined, 'Print one JSON object instead of the table'),
      })
      .epilogue(
        'The key is read from OPENAI_API_KEY, never stored and never shown. HTTPS_PROXY and NO_PROXY hold.',
      )
      .strict(),
  handler: async (args) => (await import('./runJudge.js')).runJudge(args),
};

export const benchCommand: CommandModule<object, Arguments> = {
  command: 'bench',
  describe: 'Answer a question set and record tokens per step, times and acceptance',
  builder: (yargs) =>
    addOptions(addRunOptions(yargs, 'bench'), {
      shard: valued(questionGroup, 'Only part i of n, as i/n; bench merge puts the parts together'),
      trace: flag(outputGroup, 'Keep the first trees of each turn (for compare)'),
      'model-id': valued(outputGroup, 'Name of the model in answers.jsonl', '<model>-<tree>'),
    })
      .command(mergeCommand)
      .command(judgeCommand)
      .example('$0 bench --tree dynamic --nodes 64 --output runs/dynamic', 'The built-in questions')
      .example('$0 bench --questions mt-bench --temperature fastchat', 'MT-Bench as FastChat asks it')
      .strict(),
  handler: async (args) => (await import('./runBench.js')).runBench(args),
};
