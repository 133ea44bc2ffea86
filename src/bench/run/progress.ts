/** A progress bar on stderr: silent off a terminal. */
import { SingleBar } from 'cli-progress';
import { visibleInLine } from '../../util/terminalText.js';
import type { TurnRecord } from './formats.js';

export class RunProgress {
  private readonly bar: SingleBar | undefined;
  private tokens = 0;
  private milliseconds = 0;
  private added = 0;
  private steps = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr, quiet = false) {
    if (quiet || !stream.isTTY) return;
    this.bar = new SingleBar({
      stream,
      format:
        '{bar} {value}/{total} {what} | {eta_formatted} left | {perStep} tokens/step | {perSecond} tokens/s',
      barCompleteChar: '━',
      barIncompleteChar: '─',
      barsize: 24,
      hideCursor: true,
      // One unit takes seconds to minutes: few samples must do for the estimate.
      etaBuffer: 16,
      clearOnComplete: false,
      stopOnComplete: false,
    });
  }

  start(total: number, done: number): void {
    this.bar?.start(total, done, { what: 'starting', perStep: '-', perSecond: '-' });
  }

  note(what: string): void {
    this.bar?.update({ what: visibleInLine(what) });
  }

  turn(record: TurnRecord): void {
    this.tokens += record.token_ids.length;
    this.milliseconds += record.wall_ms;
    this.steps += record.steps;
    this.added += record.accept_lengths.reduce((sum, length) => sum + length, 0);
    this.bar?.update({
      perStep: this.steps > 0 ? (this.added / this.steps).toFixed(2) : '-',
      perSecond: this.milliseconds > 0 ? ((this.tokens / this.milliseconds) * 1000).toFixed(1) : '-',
    });
  }

  question(): void {
    this.bar?.increment();
  }

  stop(): void {
    this.bar?.stop();
  }
}
