import { homedir } from 'node:os';
import { join } from 'node:path';

/** The folder for what can be fetched or made again, of this user: the system's usual one, or in XDG_CACHE_HOME. */
export function cacheFolder(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  return join(environment.XDG_CACHE_HOME || usualFolder(environment, platform), 'medusa-plus');
}

function usualFolder(environment: NodeJS.ProcessEnv, platform: NodeJS.Platform): string {
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  if (platform === 'win32') return environment.LOCALAPPDATA || join(homedir(), 'AppData', 'Local');
  return join(homedir(), '.cache');
}
