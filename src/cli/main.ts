import { inspect } from 'node:util';
import yargs, { type Argv, type CommandModule } from 'yargs';
import { ExitCode, InterruptedError, MedusaError, UsageError } from '../util/errors.js';
import { packageVersion } from '../util/packageRoot.js';
import { benchCommand } from './bench.js';
import { compareCommand, joinVariantTexts } from './compare.js';
import { doctorCommand } from './doctor.js';
import { generateCommand } from './generate.js';
import { asTyped } from './options.js';
import { printError } from './output.js';
import { prepareCommand } from './prepare.js';

/**
 * A command as yargs sees it. The modules listed here hold names, descriptions and options only; what a command does
 * is imported when it runs, so that `--help` does not load ONNX Runtime.
 */
const commands: readonly CommandModule[] = [
  generateCommand,
  benchCommand,
  compareCommand,
  prepareCommand,
  doctorCommand,
];

/** Runs the command line and sets the exit code; never throws. */
export async function main(args: readonly string[]): Promise<void> {
  try {
    await parseAndRun(args);
  } catch (error) {
    reportError(error);
  }
}

/**
 * What a command does, thrown by its handler to end the parsing. When a handler has returned, yargs lays out the command's
 * whole help to have it at hand: some 40 ms of each start.
 */
class Chosen extends Error {
  constructor(readonly run: () => Promise<void> | void) {
    super('a command was chosen');
  }
}

async function parseAndRun(args: readonly string[]): Promise<void> {
  try {
    await buildParser(args).parseAsync();
  } catch (error) {
    if (!(error instanceof Chosen)) throw error;
    await error.run();
  }
}

function endingTheParse(command: CommandModule): CommandModule {
  const handler: CommandModule['handler'] = (args) => {
    throw new Chosen(() => command.handler(args));
  };
  return { ...command, handler };
}

function buildParser(args: readonly string[]): Argv {
  let parser = yargs(joinVariantTexts(args))
    .scriptName('medusa-plus')
    .usage('$0 <command>\n\nGenerate text with Medusa heads and dynamic candidate trees on ONNX Runtime.')
    .parserConfiguration(asTyped)
    .version(packageVersion())
    .help()
    .alias({ h: 'help', v: 'version' })
    .demandCommand(1, 'Give a command: medusa-plus generate "Hello", say.')
    .strict()
    .recommendCommands()
    .wrap(Math.min(120, process.stderr.columns ?? 100))
    .exitProcess(false)
    // yargs would print the whole help before the message.
    .fail((message: string, error: Error | undefined) => {
      // What is not yargs' own error comes out of a command.
      if (error !== undefined && error.name !== 'YError') throw error;
      const hint =
        /^Unknown argument/.test(message) && args[0] === 'generate'
          ? ' (a prompt of several words needs quotes)'
          : '';
      throw new UsageError(`${message}${hint}\nRun medusa-plus --help, or medusa-plus <command> --help.`);
    });
  for (const command of commands) parser = parser.command(endingTheParse(command));
  return parser;
}

/** Prints the message alone: a stack trace helps nobody who can only correct the option it is about. */
function reportError(error: unknown): void {
  process.exitCode = exitCodeOf(error);
  if (process.env.MEDUSA_PLUS_DEBUG) {
    printError(inspect(error));
  } else if (process.exitCode === ExitCode.interrupted) {
    printError(error instanceof InterruptedError ? `Interrupted. ${error.message}` : 'Interrupted.');
  } else {
    printError(`medusa-plus: ${error instanceof Error ? error.message : String(error)}`);
    if (!(error instanceof MedusaError)) printError('Set MEDUSA_PLUS_DEBUG=1 to see where this comes from.');
  }
}

function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof MedusaError) return error.exitCode;
  return (error as Error | undefined)?.name === 'AbortError' ? ExitCode.interrupted : ExitCode.failure;
}
