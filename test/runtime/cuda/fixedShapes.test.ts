import { expect } from 'chai';
import { CpuDevice, type Device } from '../../../src/runtime/cuda/device.js';
import { SharedModel } from '../../../src/runtime/cuda/sharedModel.js';
import { OrtApi } from '../../../src/runtime/cuda/ortApi.js';
import { shippedLibrary } from '../../../src/runtime/cuda/ortLibrary.js';
import type { OpenOptions } from '../../../src/runtime/index.js';
import {
  distance,
  float16Options,
  openSplit,
  pathTo,
  randomIds,
  randomTree,
  read,
  sharedOptions,
} from '../tiny.js';

/** What was bound and run, in order. */
interface Event {
  readonly what: 'input' | 'output' | 'run';
  readonly binding: bigint;
  readonly name?: string;
  readonly address?: bigint;
  readonly runOptions?: bigint | null;
}

/** A model on CPU memory whose calls to ONNX Runtime are written down. */
async function openWatched(
  options: Partial<OpenOptions> = {},
  kind: Device['kind'] = 'cpu',
): Promise<{
  model: SharedModel;
  events: Event[];
  config: string[][];
  shapes: Map<string, readonly number[]>;
}> {
  const api = await OrtApi.load(shippedLibrary());
  const events: Event[] = [];
  const config: string[][] = [];
  const shapes = new Map<string, readonly number[]>();
  let address = 0n;
  let shape: readonly number[] = [];
  const tensorOver = api.tensorOver.bind(api);
  api.tensorOver = (...args) => {
    address = args[1];
    shape = args[3];
    return tensorOver(...args);
  };
  const call = api.call.bind(api);
  api.call = (name, ...args) => {
    const [first, second] = args as bigint[];
    if (name === 'BindInput') {
      events.push({ what: 'input', binding: first, name: String(second), address });
      shapes.set(String(second), shape);
    }
    if (name === 'BindOutput') events.push({ what: 'output', binding: first, name: String(second), address });
    if (name === 'RunWithBinding')
      events.push({ what: 'run', binding: args[2] as bigint, runOptions: second });
    if (name === 'AddRunConfigEntry') config.push(args.slice(1) as string[]);
    call(name, ...args);
  };
  const device = Object.assign(new CpuDevice(api, 1), { kind });
  const model = await SharedModel.open(api, device, { ...sharedOptions, ...options });
  return { model, events, config, shapes };
}

/** Sixty steps with trees of many sizes behind a growing past; every token and the drafts that came out. */
async function walk(model: SharedModel, seed: number): Promise<{ tokens: number[]; drafts: number[] }> {
  const tokens: number[] = [];
  const drafts: number[] = [];
  await read(model, randomIds(150, seed), { logits: false });
  for (let step = 0; step < 60; step++) {
    const tree = randomTree(1 + ((step * 7) % 20), seed + step, 5);
    const { nextTokens } = await model.verify(tree, { logits: false });
    tokens.push(...nextTokens);
    const kept = pathTo(tree, tree.size - 1).slice(0, 3);
    await model.keep(kept);
    drafts.push(...(await model.propose(3, nextTokens[kept.at(-1)!])).ids);
  }
  return { tokens, drafts };
}

describe('runtime: steps with fixed shapes', () => {
  it('give the same tokens and drafts with and without CUDA graphs', async () => {
    for (const options of [{}, float16Options]) {
      const results = [];
      for (const cudaGraphs of [false, true]) {
        const { model } = await openWatched({ ...options, cudaGraphs });
        results.push(await walk(model, 40));
        await model.dispose();
      }
      expect(results[1]).to.deep.equal(results[0]);
    }
  });

  it('bind each name of a shape once, and never again: addresses stay', async () => {
    const { model, events } = await openWatched({ cudaGraphs: true });
    await walk(model, 41);
    const backbone = new Set(events.filter(({ name }) => name === 'input_ids').map(({ binding }) => binding));
    const runs = events.filter(({ what, binding }) => what === 'run' && backbone.has(binding));
    // 20 sizes of trees are six shapes, for each of two widths of the bias; the prompt is one more.
    expect(backbone.size).to.be.within(8, 13);
    expect(runs).to.have.length(61);
    const bound = events.filter(({ what, binding }) => what !== 'run' && backbone.has(binding));
    const keys = bound.map(({ what, binding, name }) => `${what} ${binding} ${name}`);
    expect(new Set(keys).size).to.equal(keys.length);
    // One place for all shapes: what one copy of the inputs fills is what every graph reads.
    const addresses = (wanted: string): Set<bigint | undefined> =>
      new Set(bound.filter(({ name }) => name === wanted).map(({ address }) => address));
    for (const name of ['attention_bias', 'next_tokens', 'hidden', 'logits', 'total_sequence_length']) {
      expect(addresses(name).size, name).to.equal(1);
    }
    for (const name of ['cache_key.0', 'cache_value.1']) {
      expect(addresses(name)).to.deep.equal(addresses(name.replace('.', '_out.')));
    }
    await model.dispose();
  });

  it('name one graph for each shape of trees, and none for prompts', async () => {
    const { model, events, config } = await openWatched({ cudaGraphs: true });
    await walk(model, 42);
    const ids = config.map(([key, id]) => `${key} ${id}`);
    expect(ids[0]).to.equal('gpu_graph_id -1');
    expect(new Set(ids).size).to.equal(ids.length);
    expect(ids.slice(1).every((each) => /^gpu_graph_id [1-9]\d*$/.test(each))).to.equal(true);
    const byBinding = new Map<bigint, Set<bigint | null>>();
    for (const { what, binding, runOptions } of events) {
      if (what !== 'run' || runOptions === undefined) continue;
      byBinding.set(binding, (byBinding.get(binding) ?? new Set()).add(runOptions));
    }
    for (const options of byBinding.values()) expect(options.size).to.equal(1);
    await model.dispose();
  });

  it('leave the options of runs alone unless graphs are asked for', async () => {
    const { model, config } = await openWatched();
    await walk(model, 43);
    expect(config).to.have.length(0);
    await model.dispose();
  });

  it('take the memory of the largest run when a model is opened on a card, and leave no trace of it', async () => {
    for (const cudaGraphs of [false, true]) {
      const plain = await openWatched({ cudaGraphs });
      expect(plain.shapes.has('attention_bias')).to.equal(false);
      const { model, shapes } = await openWatched({ cudaGraphs, prefillRows: 100 }, 'cuda');
      expect(shapes.get('attention_bias')).to.deep.equal([1, 1, 100, 512]);
      expect(model.cachedLength).to.equal(0);
      expect(await walk(model, 45)).to.deep.equal(await walk(plain.model, 45));
      await model.dispose();
      await plain.model.dispose();
    }
  });

  it('need no room for padding at the end of the cache', async () => {
    const models = [await openSplit(), (await openWatched()).model];
    const logits = await Promise.all(
      models.map(async (model) => {
        await read(model, randomIds(507, 5), { logits: false });
        const result = await model.verify(randomTree(5, 6, 2), { logits: true });
        await model.keep([0]);
        return result.logits!;
      }),
    );
    expect(distance(logits[0], logits[1])).to.be.below(1e-4);
    for (const model of models) await model.dispose();
  });
});
