import { expect } from 'chai';
import { prefill } from '../../src/decoding/prefill.js';
import type { DraftingModel, VerifyOptions } from '../../src/decoding/types.js';
import { TableModel } from '../support/tableModel.js';

const text = Array.from({ length: 10 }, (_, i) => i % 7);

/** A model that takes `promptRows` tokens at most, and what it was given. */
function watched(promptRows: number | undefined): {
  model: DraftingModel & TableModel;
  parts: [number[], VerifyOptions['logits']][];
} {
  const model = Object.assign(new TableModel(), { promptRows });
  const parts: [number[], VerifyOptions['logits']][] = [];
  const whole = model.prefill.bind(model);
  model.prefill = (ids, options) => {
    parts.push([Array.from(ids), options.logits]);
    return whole(ids, options);
  };
  return { model, parts };
}

describe('prefill', () => {
  it('gives a model parts that it takes, and asks for the logits of the last alone', async () => {
    for (const [promptRows, lengths] of [
      [4, [4, 4, 2]],
      [5, [5, 5]],
      [99, [10]],
      [undefined, [10]],
    ] as const) {
      const { model, parts } = watched(promptRows);
      const seen: number[] = [];
      const result = await prefill(model, text, {
        logits: true,
        onPrompt: (done, of) => seen.push(done / of),
      });
      expect(parts.map(([ids]) => ids.length)).to.deep.equal(lengths);
      expect(parts.flatMap(([ids]) => ids)).to.deep.equal(text);
      expect(parts.map(([, logits]) => logits)).to.deep.equal(
        lengths.map((_, i) => i === lengths.length - 1),
      );
      expect(seen).to.have.length(lengths.length).and.to.include(1);
      expect(result!.logits).to.deep.equal(model.logitsAfter(text));
    }
  });

  it('ends after the part that is running when it is aborted', async () => {
    const { model } = watched(4);
    const controller = new AbortController();
    const { signal } = controller;
    const onPrompt = (): void => controller.abort();
    expect(await prefill(model, text, { logits: false, signal, onPrompt })).to.equal(undefined);
    expect(model.cachedTokens).to.deep.equal(text.slice(0, 4));
  });
});
