import { expect } from 'chai';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder } from '../../src/util/cacheFolder.js';

describe('The cache folder', () => {
  const cases: [platform: NodeJS.Platform, environment: NodeJS.ProcessEnv, parent: string][] = [
    ['linux', {}, join(homedir(), '.cache')],
    ['linux', { XDG_CACHE_HOME: '' }, join(homedir(), '.cache')],
    ['linux', { XDG_CACHE_HOME: '/cache' }, '/cache'],
    ['darwin', {}, join(homedir(), 'Library', 'Caches')],
    ['darwin', { XDG_CACHE_HOME: '/cache' }, '/cache'],
    ['win32', { LOCALAPPDATA: '/local' }, '/local'],
    ['win32', {}, join(homedir(), 'AppData', 'Local')],
  ];
  for (const [platform, environment, parent] of cases) {
    it(`on ${platform} with ${JSON.stringify(environment)}`, () => {
      expect(cacheFolder(environment, platform)).to.equal(join(parent, 'medusa-plus'));
    });
  }
});
