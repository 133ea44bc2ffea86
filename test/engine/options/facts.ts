import type { HeadFacts } from '../../../src/engine/options/resolve.js';

/** A model that can do everything the options ask for. */
export const ableFacts: HeadFacts = {
  model: 'able',
  modelFolder: '/nowhere',
  heads: 'able',
  headCount: 16,
  maxTopM: 1024,
  hasConditional: true,
};
