import type { Arguments } from './options.js';

export function runJudge(_args: Arguments): Promise<void> {
  return Promise.reject(new Error('not yet'));
}
