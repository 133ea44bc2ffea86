import { canHave, checkPrecision, defaultPrecisionOf } from './precisions.js';
import { ModelError, UsageError } from '../util/errors.js';
import { prepareAgain, prepareCommand } from './prepareCommand.js';
import type { BackboneEntry, GraphEntry, HeadsEntry, Manifest } from './manifestSchema.js';

/** What the user asked for, as far as it concerns the choice of graphs. */
export interface GraphWishes {
  readonly provider: 'cpu' | 'cuda';
  readonly precision?: string;
  /** A name, or `none`. */
  readonly heads?: string;
}

export interface ChosenGraphs {
  readonly backbone: BackboneEntry;
  readonly heads: HeadsEntry | undefined;
  readonly keep: GraphEntry | undefined;
}

/**
 * Picks the graphs for a provider out of a manifest.
 *
 * @param folder of the model, for messages
 */
export function chooseGraphs(manifest: Manifest, wishes: GraphWishes, folder: string): ChosenGraphs {
  const backbone = chooseBackbone(manifest, wishes, folder);
  const keep = manifest.keep.find((graph) => graph.precision === backbone.precision);
  if (backbone.layout === 'shared' && keep === undefined) {
    throw new ModelError(
      `Model ${manifest.model.id} has no keep graph of precision ${backbone.precision}, which its backbone ` +
        `${backbone.file} needs. ${prepareAgain(folder)}`,
    );
  }
  return {
    backbone,
    heads: chooseHeads(manifest, wishes, backbone, folder),
    keep: backbone.layout === 'shared' ? keep : undefined,
  };
}

function chooseBackbone(
  manifest: Manifest,
  { provider, precision }: GraphWishes,
  folder: string,
): BackboneEntry {
  // On CUDA the cache must live on the device, which only the shared layout does; the CPU is fastest with the other.
  const layout = provider === 'cuda' ? 'shared' : 'split';
  const fitting = manifest.backbones.filter((backbone) => backbone.layout === layout);
  const wanted = precision ?? manifest.defaults[provider]?.backbone;
  const found = wanted === undefined ? fitting[0] : fitting.find((backbone) => backbone.precision === wanted);
  if (found !== undefined) return found;
  const { id, family } = manifest.model;
  const there = fitting.map((backbone) => backbone.precision).join(', ');
  const has =
    there === '' ? `has no graph for ${provider}` : `has these precisions for ${provider}: ${there}`;
  const missing = wanted ?? (provider === 'cuda' ? 'fp16' : defaultPrecisionOf(family));
  if (precision !== undefined) checkPrecision(precision);
  if (!canHave(family, missing)) {
    throw new UsageError(
      `Precision ${missing} is not there: models of family ${family} cannot be made in it. Model ${id} ${has}.`,
    );
  }
  const remedy = `Prepare it: ${prepareCommand(folder, '--precision', missing)}`;
  if (precision !== undefined)
    throw new UsageError(`Precision ${precision} is not there: model ${id} ${has}. ${remedy}.`);
  throw new ModelError(`Model ${id} ${has}. ${remedy}.`);
}

function chooseHeads(
  manifest: Manifest,
  { provider, heads }: GraphWishes,
  { precision }: BackboneEntry,
  folder: string,
): HeadsEntry | undefined {
  if (heads === 'none') return undefined;
  const wanted = heads ?? manifest.defaults[provider]?.heads;
  const named = manifest.heads.filter((entry) => entry.name === wanted);
  if (heads !== undefined && named.length === 0) {
    const names = [...new Set(manifest.heads.map((entry) => entry.name))].join(', ') || 'none';
    throw new UsageError(`Model ${manifest.model.id} has no heads named ${heads}; it has: ${names}.`);
  }
  // On the CPU hidden states are float32 whatever the weights are, and any heads will do.
  if (provider === 'cpu') return named.find((entry) => entry.precision === 'int8') ?? named[0];
  const found = named.find((entry) => entry.precision === precision);
  if (found === undefined && named.length > 0) {
    throw new ModelError(
      `The heads ${wanted} of model ${manifest.model.id} have no ${precision} graph, which ${provider} needs. ` +
        `Prepare it: ${prepareCommand(folder, '--precision', precision)}.`,
    );
  }
  return found;
}
