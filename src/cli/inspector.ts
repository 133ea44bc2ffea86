import type { Inspector } from '../bench/compare/explain.js';
import type { LoadedRun } from '../bench/compare/load.js';
import { modelIdentity } from '../bench/run/environment.js';
import { MedusaEngine } from '../engine/engine.js';
import type { ProviderName } from '../engine/options/modelOptions.js';
import { readModelOptions, type Arguments } from './options.js';

/** Opens the model of a run, to look into its outputs. Model options given on the command line go first. */
export async function openInspector(args: Arguments, { info }: LoadedRun): Promise<Inspector> {
  const given = await readModelOptions(args);
  const engine = await MedusaEngine.open({
    ...given,
    model: given.model ?? info.model.id,
    precision: info.model.precision,
    provider: info.model.provider as ProviderName,
    threads: given.threads ?? info.machine.threads,
    prepare: false,
  });
  return {
    nextLogits: (ids) => engine.nextLogits(ids),
    decode: (ids) => engine.tokenizer.decode([...ids]),
    backbone: (await modelIdentity(engine.facts)).backbone_sha256,
    dispose: () => engine.dispose(),
  };
}
