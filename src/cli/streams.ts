import { ExitCode } from '../util/errors.js';
import { printError } from './output.js';

/**
 * What becomes of a command when its output cannot be written. The answer, on stdout, is what it is for: without it there
 * is nothing left to do. All else, on stderr, it goes on without.
 */
export function watchStreams(): void {
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // `medusa-plus generate ... | head -1` closes the pipe early: nobody is left to write for.
    if (error.code === 'EPIPE') process.exit(ExitCode.ok);
    const why = error.code === 'ENOSPC' ? 'the disk is full' : error.message;
    printError(`medusa-plus: cannot write the output: ${why}.`);
    process.exit(ExitCode.failure);
  });
}
