import { constants, openSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { UsageError } from '../util/errors.js';

/** Where a prompt may come from. */
export interface PromptSource {
  /** The argument; `-` means standard input. */
  readonly argument: string | undefined;
  readonly file: string | undefined;
  /** Keep the text exactly as it is. */
  readonly raw: boolean;
}

/** The prompt: the argument, a file, or standard input when that is asked for or piped. */
export async function readPrompt(source: PromptSource): Promise<string> {
  const { argument, file, raw } = source;
  if (argument !== undefined && file !== undefined) {
    throw new UsageError('Give the prompt as an argument or with --file, not both.');
  }
  if (argument !== undefined && argument !== '-') return checkNotEmpty(argument, raw);
  if (file !== undefined) return checkNotEmpty(decode(await read(file), `--file ${file}`, raw), raw);
  if (argument === undefined && process.stdin.isTTY) {
    throw new UsageError(
      'Give a prompt: medusa-plus generate "your prompt", --file FILE, or text on standard input.',
    );
  }
  return checkNotEmpty(decode(await buffer(process.stdin), 'standard input', raw), raw);
}

async function read(file: string): Promise<Buffer> {
  try {
    const info = await stat(file);
    if (info.isFIFO()) return await readPipe(file);
    const { notRegular } = await import('../util/regularFile.js');
    const other = notRegular(info);
    if (other !== undefined) throw new Error(`${other} or a pipe`);
    return await readFile(file);
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new UsageError(`--file ${file}: ${why}.`, { cause: error });
  }
}

/**
 * All that comes through a pipe, `<(command)` say. Its opening and its reads wait in the event loop, not in a thread that
 * would keep the process from ending.
 */
async function readPipe(file: string): Promise<Buffer> {
  const { Socket } = await import('node:net');
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return buffer(new Socket({ fd, readable: true, writable: false }));
}

function decode(bytes: Buffer, name: string, raw: boolean): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    // The newline that echo and editors put at the end is not part of a chat message.
    return raw ? text : text.replace(/\r?\n$/, '');
  } catch (error) {
    throw new UsageError(`${name} is not UTF-8 text.`, { cause: error });
  }
}

function checkNotEmpty(prompt: string, raw: boolean): string {
  if ((raw ? prompt : prompt.trim()) !== '') return prompt;
  throw new UsageError('The prompt is empty. Give some text to go on from.');
}
