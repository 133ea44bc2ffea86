import { Chalk, type ChalkInstance, supportsColor, supportsColorStderr } from 'chalk';
import type { Report } from '../util/progressReport.js';
import { onTerminal, styled } from '../util/terminalText.js';
import { printError, writeError } from './output.js';

/** Colours for stderr; none off a terminal or when NO_COLOR is set (https://no-color.org), which chalk leaves to us. */
export function stderrColors(): ChalkInstance {
  return colors(supportsColorStderr);
}

export function stdoutColors(): ChalkInstance {
  return colors(supportsColor);
}

function colors(support: typeof supportsColor): ChalkInstance {
  return new Chalk({ level: process.env.NO_COLOR || !support ? 0 : support.level });
}

/** A report on stderr, and the way to end it. */
export interface TerminalReport extends Report {
  /** Removes the bar, if one is there. */
  end(): void;
}

/** A progress bar on a terminal, plain lines elsewhere. */
export function createReport(): TerminalReport {
  return process.stderr.isTTY ? new BarReport() : new LineReport();
}

class LineReport implements TerminalReport {
  begin(stage: string): void {
    printError(stage);
  }
  progress(): void {}
  note(message: string): void {
    printError(message);
  }
  end(): void {}
}

/** What is used of a cli-progress bar, which is imported when the first one is drawn. */
interface Bar {
  start(total: number, value: number, payload: { stage: string }): void;
  update(value: number): void;
  stop(): void;
}

class BarReport implements TerminalReport {
  private bar: Bar | undefined;
  private stage = '';
  private readonly colors = stderrColors();

  begin(stage: string): void {
    this.end();
    this.stage = stage;
    writeError(onTerminal`${styled(this.colors.dim, stage)}\n`);
  }

  progress(share: number): void {
    if (this.bar === undefined) void this.startBar(share);
    else this.bar.update(share);
  }

  note(message: string): void {
    this.end();
    printError(message);
  }

  end(): void {
    this.bar?.stop();
    this.bar = undefined;
    this.stage = '';
  }

  private async startBar(share: number): Promise<void> {
    const stage = this.stage;
    const { SingleBar } = (await import('cli-progress')).default;
    // Another stage may have begun meanwhile, or this one may be over.
    if (stage === '' || this.stage !== stage || this.bar !== undefined) return;
    this.bar = new SingleBar({
      format: '  {bar} {percentage}% | {eta_formatted}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      barCompleteChar: '█',
      barIncompleteChar: '░',
    });
    this.bar.start(1, share, { stage });
  }
}
