import { OtherPrograms } from '../util/otherPrograms.js';

/** Goes on with another number of threads: what is cached stays. Takes about as long as opening the model. */
export type UseThreads = (threads: number) => Promise<void>;

export interface ThreadsOptions {
  /** The number found best on a calm machine: never more than these are used. */
  readonly best: number;
  /** Those that the model is open with; `best` when absent. */
  readonly now?: number;
  readonly processors: number;
  readonly use: UseThreads;
  /** Milliseconds that opening the model took. */
  readonly opening: number;
  /** Whether there is memory for the model twice, as there must be during a change; true when absent. */
  readonly hasRoom?: () => boolean;
  /** By default the real ones. */
  readonly others?: Pick<OtherPrograms, 'elapsed' | 'busyProcessors'>;
}

/**
 * Gives up threads while other programs keep processors busy, and takes them back later.
 *
 * The threads of a run wait for each other. One that shares its processor with another program is often not running, and the
 * others then wait for it: with two threads on two processors, one of them busy, steps take twice as long as with one.
 */
export class ThreadsInUse {
  private threads: number;
  /** Milliseconds for which another number would have been right. */
  private waited = 0;
  private patience: number;
  private readonly others: Pick<OtherPrograms, 'elapsed' | 'busyProcessors'>;

  constructor(private readonly options: ThreadsOptions) {
    this.threads = options.now ?? options.best;
    this.others = options.others ?? new OtherPrograms();
    this.patience = Math.max(leastPatience, openingsWorth * options.opening);
  }

  /** How many are in use. */
  get now(): number {
    return this.threads;
  }

  /** Looks at the machine now and then, and changes the number where another was right for a while. Call it between steps. */
  async follow(): Promise<void> {
    const { others, options } = this;
    const { elapsed } = others;
    if (options.best === 1 || elapsed < windowLength) return;
    const busy = others.busyProcessors();
    // What passed long before says nothing about now.
    if (busy === undefined || elapsed > longestWindow) return;
    const wanted = threadsFor(options, busy);
    this.waited = wanted === this.threads ? 0 : this.waited + elapsed;
    if (this.waited < this.patience || options.hasRoom?.() === false) return;
    this.waited = 0;
    // A program that comes and goes must not have us change at each turn.
    this.patience = Math.min(mostPatience, 1.5 * this.patience);
    await options.use(wanted);
    this.threads = wanted;
    // The change itself was work of ours.
    others.busyProcessors();
  }
}

/** Milliseconds between looks at the machine, and what counts as recent. */
const windowLength = 500;
const longestWindow = 5000;
/** Milliseconds, and times that opening takes, for which another number must be right before the change is worth it. */
const leastPatience = 900;
const openingsWorth = 4;
const mostPatience = 60_000;

/**
 * Processors' worth of load that a thread stands: beside a program that works half of the time, two threads on two processors
 * are as fast as one. A program that shares its processor with a thread gets less of it, so that what keeps a thread from
 * being taken back is less than what has it given up.
 */
const slightLoad = 0.5;

/** The number of threads that find a processor each while other programs keep `busy` of them busy. */
export function threadsFor(
  { best, processors }: Pick<ThreadsOptions, 'best' | 'processors'>,
  busy: number,
): number {
  return Math.max(1, Math.min(best, processors - Math.ceil(busy - slightLoad)));
}
