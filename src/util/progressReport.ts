/** Told what takes long: fetching, converting, measuring. The command line draws it; a library user may ignore it. */
export interface Report {
  /** A stage begins (and the one before it ends). */
  begin(stage: string): void;
  /** Share of the present stage that is done, 0 to 1. */
  progress(share: number): void;
  /** Something worth a line of its own. */
  note(message: string): void;
}

export const silentReport: Report = { begin: () => {}, progress: () => {}, note: () => {} };
