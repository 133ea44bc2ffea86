/** What the bench needs of an engine. `MedusaEngine` is one; tests bring their own. */
import type { GenerationResult, Message } from '../engine/engine.js';
import type { EngineFacts } from '../engine/facts.js';
import type { GenerateOptions } from '../engine/options/generateOptions.js';

export interface BenchEngine {
  readonly facts: EngineFacts;
  complete(prompt: string | readonly Message[], options: GenerateOptions): Promise<GenerationResult>;
  /** Forgets the cached positions, and what drafts learnt, so that no variant profits from the one before it. */
  forget(options?: { drafts?: boolean }): void;
  dispose(): Promise<void>;
}
