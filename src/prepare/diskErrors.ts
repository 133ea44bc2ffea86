import { ModelError } from '../util/errors.js';

/** Whether what a program said shows that the disk was full. */
export function isDiskFull(text: string): boolean {
  return /ENOSPC|EDQUOT|No space left on device|Disk quota exceeded|Errno 28/i.test(text);
}

/** A sentence to add to a message when `text` shows that the disk was full; '' otherwise. */
export function diskFullHint(text: string): string {
  return isDiskFull(text) ? ' The disk is full: free some space.' : '';
}

/** Turns the file system's refusals into messages that name the folder and what to do; other errors pass unchanged. */
export function explainDiskError(error: unknown, folder: string): unknown {
  const elsewhere = 'choose another folder with --models-dir or MEDUSA_PLUS_MODELS';
  const explained = (message: string): ModelError => new ModelError(message, undefined, { cause: error });
  switch ((error as NodeJS.ErrnoException | null)?.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return explained(`The disk of ${folder} is full. Free some space, or ${elsewhere}.`);
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return explained(
        `Cannot write to ${folder} (${(error as Error).message}). Make it writable, or ${elsewhere}.`,
      );
    case 'ENOTDIR':
    case 'EEXIST':
      return explained(`${folder} cannot be a folder: a file is in the way. Remove it, or ${elsewhere}.`);
    default:
      return error;
  }
}
