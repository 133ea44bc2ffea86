import { cpus } from 'node:os';
import { availableProcessors } from './processors.js';

/** What the system has counted so far, in milliseconds. */
export interface ProcessorTimes {
  /** On the clock. */
  readonly now: number;
  /** Time that processors worked, all of them together, for whatever program. */
  readonly busy: number;
  /** The part of it that was this process's. */
  readonly own: number;
}

/** Looks at how busy other programs keep the processors, from one reading to the next. */
export class OtherPrograms {
  private last: ProcessorTimes | undefined;

  /** @param read undefined where the system's processors are not those that this process may use */
  constructor(private readonly read: () => ProcessorTimes | undefined = processorTimes) {
    this.last = read();
  }

  /** Milliseconds since the last reading. */
  get elapsed(): number {
    return this.last ? performance.now() - this.last.now : 0;
  }

  /** Processors' worth of time that other programs took since the last reading; undefined where that is not known. */
  busyProcessors(): number | undefined {
    const { last } = this;
    const next = (this.last = this.read());
    if (!last || !next || next.now <= last.now) return undefined;
    return Math.max(0, (next.busy - last.busy - (next.own - last.own)) / (next.now - last.now));
  }
}

function processorTimes(): ProcessorTimes | undefined {
  const all = cpus();
  // Within a quota or on some of the processors, what the others do says nothing about ours.
  if (all.length === 0 || all.length !== availableProcessors()) return undefined;
  const busy = all.reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  const { user, system } = process.cpuUsage();
  return { now: performance.now(), busy, own: (user + system) / 1000 };
}
