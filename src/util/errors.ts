/** Exit codes of the command line. */
export const ExitCode = { ok: 0, failure: 1, usage: 2, outputsDiffer: 3, interrupted: 130 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/**
 * An error whose message is meant for the user: it names the thing, the value given, the valid range and what to do.
 * The command line prints the message without a stack trace.
 */
export class MedusaError extends Error {
  constructor(
    message: string,
    /** Exit code of the command line when this error ends it. */
    readonly exitCode: ExitCode = ExitCode.failure,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A wrong option or argument (exit code 2). */
export class UsageError extends MedusaError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, ExitCode.usage, options);
  }
}

/** A command that Ctrl-C ended; the message says what becomes of the work done so far. */
export class InterruptedError extends MedusaError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, ExitCode.interrupted, options);
  }
}

/** A model, heads or tokenizer file that is missing, damaged or does not fit the others. */
export class ModelError extends MedusaError {}

/** A prompt (with what was asked to follow it) that does not fit the context. */
export class ContextError extends MedusaError {}

/** ONNX Runtime, or a library it needs, failed. */
export class RuntimeFailure extends MedusaError {}
