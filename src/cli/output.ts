/** Alone writes to the terminal (eslint sees to that), so that no control sequence of others gets there. */
import { once } from 'node:events';
import { terminalJson, terminalString, VisibleStream, type TerminalContent } from '../util/terminalText.js';

/** A line on stdout. */
export function print(content: TerminalContent): void {
  console.log(terminalString(content));
}

/** One JSON object on stdout. */
export function printJson(value: unknown): void {
  console.log(terminalJson(value));
}

/** A line on stderr. */
export function printError(content: TerminalContent): void {
  console.error(terminalString(content));
}

/** On stderr, without a line end. */
export function writeError(content: TerminalContent): void {
  process.stderr.write(terminalString(content));
}

/** What the model writes: to a file or a pipe as it is, to a terminal with its control characters shown. */
export class AnswerOutput {
  private readonly stream: VisibleStream | undefined;

  /** `untouched`: as it is even to a terminal. */
  constructor(untouched: boolean) {
    this.stream = process.stdout.isTTY && !untouched ? new VisibleStream() : undefined;
  }

  async write(text: string): Promise<void> {
    await writeOut(this.stream?.write(text) ?? text);
  }

  /** Ends the last line. */
  async end(): Promise<void> {
    await writeOut(`${this.stream?.end() ?? ''}\n`);
  }
}

/** Waits when the reader is slower than the model. */
async function writeOut(text: string): Promise<void> {
  if (text !== '' && !process.stdout.write(text)) await once(process.stdout, 'drain');
}
