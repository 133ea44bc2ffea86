import { noTimes } from './statistics.js';
import type { StageTimes } from './types.js';

/** Attributes every millisecond between its creation and `total` to the prefill or to one stage of one step. */
export class Stopwatch {
  private readonly start: number;
  private last: number;
  private prefillTime = 0;
  private current = noTimes();

  /** @param clock milliseconds from any origin */
  constructor(private readonly clock: () => number) {
    this.start = this.last = clock();
  }

  /** Ends the prefill, which is reported as backbone time. */
  prefilled(): StageTimes {
    this.lap('backbone');
    this.prefillTime = this.current.backbone;
    return this.current;
  }

  /** Begins a step. What passed since the last lap, the consumer's time above all, is this step's `rest`. */
  nextStep(): StageTimes {
    this.current = noTimes();
    this.lap('rest');
    return this.current;
  }

  /** Adds the time since the last lap to a stage of the current step. */
  lap(stage: keyof StageTimes): void {
    const now = this.clock();
    this.current[stage] += now - this.last;
    this.last = now;
  }

  total(): { prefillTime: number; wallTime: number } {
    return { prefillTime: this.prefillTime, wallTime: this.clock() - this.start };
  }
}
