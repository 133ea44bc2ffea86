/** One two-turn question, before it gets its id and category. */
export interface Draft {
  readonly turns: readonly [string, string];
  /** Reference answers to both turns, for a judge. */
  readonly reference?: readonly [string, string];
}
