import { accessSync, constants, lstatSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join, resolve } from 'node:path';

const isWindows = process.platform === 'win32';

/**
 * The absolute path of a program: of a name on PATH, or of a path as the user gave it. Empty and relative entries of
 * PATH stand for the working directory, where Windows even looks first: what lies there is not ours to run, so they are
 * passed over.
 *
 * @throws an ENOENT error when there is none
 */
export function findProgram(name: string, path: string = process.env.PATH ?? ''): string {
  if (/[/\\]/.test(name)) return resolve(name);
  const file = isWindows && !/\.exe$/i.test(name) ? `${name}.exe` : name;
  const found = path
    .split(delimiter)
    .filter((folder) => isAbsolute(folder))
    .map((folder) => join(folder, file))
    .find(isProgram);
  if (found !== undefined) return found;
  throw Object.assign(new Error(`${name} was not found on PATH`), { code: 'ENOENT' });
}

function isProgram(file: string): boolean {
  try {
    // The Python of the Windows store is a link that cannot be followed.
    if (isWindows) return !lstatSync(file).isDirectory();
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
