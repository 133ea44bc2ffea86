import { dirname } from 'node:path';
import { prepareAgain } from '../models/prepareCommand.js';

/** Wording shared by both paths to ONNX Runtime. */

/** An error's message on its own, without the full stop. */
export function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).trim().replace(/\.$/, '');
}

/** At most eight items, then a count. */
export function summary(items: readonly string[]): string {
  const shown = items.slice(0, 8).join(', ');
  return items.length > 8 ? `${shown} and ${items.length - 8} more` : shown;
}

/** The user's sentence for a graph that ONNX Runtime refuses to load. */
export function unloadable(path: string, cause: unknown): string {
  return `${path} cannot be loaded: ${messageOf(cause)}. The file is damaged or not made for this version. ${prepareAgain(dirname(path))}`;
}

/** The user's sentence for a graph that is not there. */
export function graphMissing(path: string): string {
  return `${path} does not exist. ${prepareAgain(dirname(path))}`;
}
