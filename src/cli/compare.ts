import type { CommandModule, Options } from 'yargs';
import { sweepable } from '../engine/options/table.js';
import { addRunOptions } from './bench.js';
import { flag, type Arguments } from './options.js';

/** Short names for variants; --variant takes any number more. */
const LETTERS = ['a', 'b', 'c', 'd', 'e', 'f', 'g'] as const;

const outputGroup = 'Output:';

export const compareCommand: CommandModule<object, Arguments> = {
  command: 'compare [folders..]',
  describe:
    'Compare finished runs, or run variants interleaved and compare them (none, static, dynamic by default)',
  builder: (yargs) =>
    addRunOptions(yargs, 'compare')
      .positional('folders', { describe: 'Finished bench folders', type: 'string', array: true })
      .options({
        ...Object.fromEntries(LETTERS.map((letter) => [letter, { ...variantSpec, hidden: letter > 'b' }])),
        variant: {
          ...variantSpec,
          describe: 'One more variant (also --c to --g); may be repeated. NAME:OPTIONS names it',
        },
        sweep: {
          group: 'Variants:',
          describe: `Run each variant that takes it with each value: PARAMETER=VALUE,VALUE,... (nodes=1,2,4), with PARAMETER one of ${sweepable.join(', ')}`,
          requiresArg: true,
        },
        trace: {
          ...flag(outputGroup, 'Keep trees for the step browser of the report (--no-trace: do not)'),
          default: true,
        },
        explain: {
          ...flag(
            outputGroup,
            'Where outputs differ, load the model for texts and logit gap (--no-explain: do not)',
          ),
          default: true,
        },
      })
      .example('$0 compare', 'none, static and dynamic on the built-in questions')
      .example('$0 compare --paper --nodes 64', "The paper's comparison: its tree, a static one, none")
      .example('$0 compare --sweep nodes=1,2,4,8,16,32,64', 'Where is the optimum on this machine?')
      .example('$0 compare runs/none runs/static runs/dynamic --output report', 'Runs made before')
      .strict(),
  handler: async (args) => (await import('./runCompare.js')).runCompare(args, variantTexts(args)),
};

const variantSpec: Options = {
  group: 'Variants:',
  describe: 'Options of a variant in quotes, on top of the common ones',
  requiresArg: true,
};

/** The variants of a command line in the order of their letters, then --variant. */
export function variantTexts(args: Arguments): string[] {
  return [...LETTERS, 'variant'].flatMap((name) => {
    const value = args[name];
    return value === undefined ? [] : (Array.isArray(value) ? value : [value]).map(String);
  });
}

/**
 * A variant's text begins with dashes, which the parser would take for the next option: `--a "--tree none"` and
 * `-a "--tree none"` become `--a=--tree none` before they are parsed. What stands behind `--` is nobody's option.
 */
export function joinVariantTexts(args: readonly string[]): string[] {
  const joined: string[] = [];
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  for (let index = 0; index < args.length; index++) {
    const option = /^--?([a-g])$|^--(variant)$/.exec(args[index]);
    const next = args[index + 1];
    if (option && index + 1 < end && next.startsWith('-')) {
      joined.push(`--${option[1] ?? option[2]}=${next}`);
      index++;
    } else {
      joined.push(args[index]);
    }
  }
  return joined;
}
