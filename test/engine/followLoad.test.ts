import { expect } from 'chai';
import { MedusaEngine } from '../../src/engine/engine.js';
import type { EngineParts } from '../../src/engine/open.js';
import { ThreadsInUse } from '../../src/engine/threadsInUse.js';
import type { OpenModel } from '../../src/runtime/index.js';
import { tinyFolder } from '../support/tinyModel.js';

describe('MedusaEngine on a machine that becomes busy', () => {
  it('goes on with fewer threads in the middle of an answer, which stays the same', async () => {
    const engine = await MedusaEngine.open({ model: tinyFolder, threads: 2 });
    const options = { raw: true, maxNewTokens: 40, ignoreEos: true } as const;
    try {
      const calm = await engine.complete('Hello', options);
      const { parts } = (engine as unknown as { opened: { parts: EngineParts } }).opened;
      const model = parts.model as OpenModel;
      let looks = 0;
      const others = { elapsed: 1000, busyProcessors: () => (++looks > 4 ? 1 : 0) };
      const use = model.useThreads!.bind(model);
      const threads = new ThreadsInUse({ best: 2, processors: 2, opening: 0, use, others });
      Object.assign(parts, { threads });
      const seen: number[] = [];
      const busy = await engine.complete('Hello', {
        ...options,
        onStep: () => void seen.push(engine.facts.threads),
      });
      expect(busy.tokenIds).to.deep.equal(calm.tokenIds);
      expect(new Set(seen)).to.deep.equal(new Set([2, 1]));
      expect([engine.facts.threads, engine.facts.calmThreads]).to.deep.equal([1, 2]);
    } finally {
      await engine.dispose();
    }
  });

  it('keeps the threads that were asked for', async () => {
    for (const options of [{ threads: 2 }, { followLoad: false }]) {
      const engine = await MedusaEngine.open({ model: tinyFolder, ...options });
      const { parts } = (engine as unknown as { opened: { parts: EngineParts } }).opened;
      expect(parts.threads).to.equal(undefined);
      expect(engine.facts.threads).to.equal(engine.facts.calmThreads);
      await engine.dispose();
    }
  });
});
