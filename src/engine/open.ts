import { join } from 'node:path';
import type { CostPoint } from '../decoding/policy/costCurve.js';
import type { NestedTrees } from '../decoding/tree/nestedTrees.js';
import type { DraftMemory } from '../decoding/draft/draftMemory.js';
import { NotFiniteError } from '../decoding/notFinite.js';
import type { DraftingModel } from '../decoding/types.js';
import type { EngineFacts } from './facts.js';
import { MedusaError } from '../util/errors.js';
import { chooseGraphs, type ChosenGraphs } from '../models/choose.js';
import { defaultModelName } from '../models/defaultModel.js';
import { newerHeads } from '../models/headsFiles.js';
import { hubNameOf, locateModel, type ModelPlace } from '../models/locate.js';
import { modelsFolder } from '../models/modelsFolder.js';
import { checkChanged } from '../models/fileHashes.js';
import { readManifest } from '../models/manifest.js';
import type { OpenConditional } from '../models/conditional.js';
import type { ConditionalEntry, Manifest } from '../models/manifestSchema.js';
import { ensureTuning } from '../models/tuning.js';
import { explainNotFinite } from './notFiniteMessage.js';
import type { EngineOptions } from './options/engineOptions.js';
import { mostAutoNodes } from './policies.js';
import { ThreadsInUse, threadsFor } from './threadsInUse.js';
import { formerNameNotes } from '../util/environment.js';
import { OtherPrograms } from '../util/otherPrograms.js';
import { availableProcessors } from '../util/processors.js';
import { silentReport, type Report } from '../util/progressReport.js';
import type { OpenModel, OpenOptions } from '../runtime/spec.js';
import type { ChatTemplate } from './text/chatTemplate.js';
import { loadTokenizer } from './text/load.js';
import type { Tokenizer } from './text/tokenizer.js';

/** Everything an engine is made of. */
export interface EngineParts {
  readonly facts: EngineFacts;
  readonly model: DraftingModel;
  /** Undefined where the number of threads stays as it is. */
  readonly threads: ThreadsInUse | undefined;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
  /** Tells once, when the template is first used, that it is not the model's own; undefined where it is, or was asked for. */
  readonly noteTemplate: (() => void) | undefined;
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | undefined;
  readonly addBos: boolean;
  readonly accuracies: readonly (readonly number[])[];
  readonly staticTrees: NestedTrees | undefined;
  readonly costs: readonly CostPoint[];
  readonly openConditional: (() => Promise<OpenConditional>) | undefined;
  /** What was kept for drafts, and how to keep it again; undefined where nothing is to be kept. */
  readonly memory: DraftMemory | undefined;
  readonly saveMemory: ((memory: DraftMemory) => Promise<void>) | undefined;
}

/** Finds (or prepares) the model, checks its files, tunes it for this machine and opens it. */
export async function openEngineParts(options: EngineOptions): Promise<EngineParts> {
  const report = options.report ?? silentReport;
  const place = await findModel(options, report);
  const manifest = await readManifest(place.folder);
  const loading = loadTokenizer(place.folder, manifest, options.chatTemplate);
  // Not awaited yet: a rejection before that must not end the process.
  loading.catch(() => {});
  const kept = await openMemory(manifest, options, report);
  const opened = await openOnProvider(place, manifest, options, report);
  try {
    const { tokenizer, chatTemplate, template } = await loading;
    const isImplied = template !== undefined && options.chatTemplate === undefined;
    const note = `${manifest.model.id} has no chat template: ${template} is used (--chat-template names another).`;
    const noteTemplate = isImplied ? once(() => report.note(note)) : undefined;
    options.signal?.throwIfAborted();
    const { eosTokenIds, bosTokenId, addBos } = manifest.tokenizer;
    const facts = { ...opened.facts, chatTemplate: template };
    return {
      ...opened,
      ...kept,
      facts,
      tokenizer,
      chatTemplate,
      noteTemplate,
      eosTokenIds,
      bosTokenId,
      addBos,
    };
  } catch (error) {
    await opened.model.dispose();
    throw error;
  }
}

function once(tell: () => void): () => void {
  let isTold = false;
  return () => {
    if (!isTold) tell();
    isTold = true;
  };
}

/** Reads the draft memory, before anything that takes long: its name may be wrong. */
async function openMemory(
  { model, tokenizer }: Manifest,
  { memory: file }: EngineOptions,
  report: Report,
): Promise<Pick<EngineParts, 'memory' | 'saveMemory'>> {
  if (file === undefined) return { memory: undefined, saveMemory: undefined };
  const { openMemoryFile } = await import('../models/memoryFile.js');
  const owner = { model: model.id, tokenizer: tokenizer.sha256, vocabSize: model.vocabSize };
  const { memory, save } = await openMemoryFile(file, owner, report);
  return { memory, saveMemory: save };
}

/**
 * The model's folder. The default model is prepared when it is missing, and again when new heads were committed; one of
 * the hub where that is asked for.
 */
async function findModel(options: EngineOptions, report: Report): Promise<ModelPlace> {
  const modelsDir = modelsFolder(options.modelsDir);
  const place = locateModel(options.model, modelsDir);
  const isDefault = place.name === defaultModelName;
  const hub = options.prepare === true ? hubNameOf(place.name) : undefined;
  const mayPrepare = hub !== undefined || (isDefault && options.prepare !== false);
  if (place.isPrepared && !(mayPrepare && (await hasNewerHeads(place)))) return place;
  if (!mayPrepare) {
    const { modelMissing } = await import('../models/missing.js');
    throw modelMissing(place, modelsDir, options.prepare);
  }
  report.note(
    place.isPrepared
      ? `Preparing ${place.name} again: its heads were replaced by newer ones.`
      : `Preparing ${place.name} in ${modelsDir}; this is done once.`,
  );
  const { prepareModel } = await import('../prepare/prepare.js');
  // A model of the hub is made as it is wanted here; CUDA runs fp16.
  const precision =
    options.precision ?? (hub !== undefined && options.provider === 'cuda' ? 'fp16' : undefined);
  const precisions = precision === undefined ? undefined : [precision];
  const { signal } = options;
  const which = hub === undefined ? { id: place.name, force: place.isPrepared } : { from: place.name };
  const { name, folder } = await prepareModel({ modelsDir, precisions, signal, ...which }, report);
  return { name, folder, isPrepared: true };
}

async function hasNewerHeads({ folder, name }: ModelPlace): Promise<boolean> {
  return (await newerHeads(folder, await readManifest(folder), name)).length > 0;
}

type OpenedModel = Pick<
  EngineParts,
  'facts' | 'model' | 'threads' | 'accuracies' | 'staticTrees' | 'costs' | 'openConditional'
>;

/** `auto` takes CUDA when it works, and says why when it does not; `cuda` never falls back. */
async function openOnProvider(
  place: ModelPlace,
  manifest: Manifest,
  options: EngineOptions,
  report: Report,
): Promise<OpenedModel> {
  const provider = options.provider ?? 'cpu';
  if (provider !== 'cpu') formerNameNotes().forEach((note) => report.note(note));
  if (provider !== 'auto') return openGraphs(place, manifest, { ...options, provider }, report);
  try {
    return await openGraphs(place, manifest, { ...options, provider: 'cuda' }, report);
  } catch (error) {
    if (!(error instanceof MedusaError)) throw error;
    report.note(`Running on the CPU: ${error.message}`);
    return openGraphs(place, manifest, { ...options, provider: 'cpu' }, report);
  }
}

async function openGraphs(
  place: ModelPlace,
  manifest: Manifest,
  options: EngineOptions & { provider: 'cpu' | 'cuda' },
  report: Report,
): Promise<OpenedModel> {
  const { checkProvider } = await import('../runtime/index.js');
  // First: who has no card need not prepare graphs for one.
  await checkProvider(options.provider, options.ortLibrary);
  const others = new OtherPrograms();
  const graphs = chooseGraphs(manifest, options, place.folder);
  const files = [graphs.backbone, graphs.keep, graphs.heads].flatMap((graph) => graph?.files ?? []);
  await checkChanged(place.folder, files, report.note.bind(report));
  const spec = openOptions(place.folder, manifest, graphs, options);
  const tuned = await ensureTuning(
    { folder: place.folder, manifest, graphs, spec, report, signal: options.signal },
    options,
  ).catch((error: unknown) => {
    if (!(error instanceof NotFiniteError)) throw error;
    const { backbone, heads } = graphs;
    throw explainNotFinite(error, {
      model: manifest.model.id,
      precision: backbone.precision,
      heads: heads?.name,
    });
  });
  options.signal?.throwIfAborted();
  const room = { others, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
  const { model, threads, now } = await openWithin(spec, tuned.threads, room, options, report);
  const { exactRows } = tuned;
  const costs = tuned.curves[now] ?? tuned.costs;
  const { backbone, heads } = graphs;
  if (exactRows === false) report.note(inexactRows(backbone.precision));
  const facts: EngineFacts = {
    model: manifest.model.id,
    modelFolder: place.folder,
    provider: options.provider,
    precision: backbone.precision,
    heads: heads?.name,
    headCount: model.headCount,
    maxTopM: model.maxTopM,
    hasConditional: heads?.conditional !== undefined,
    threads: now,
    calmThreads: tuned.threads,
    costs,
    exactRows,
    contextLength: model.contextLength,
  };
  return {
    facts,
    model,
    threads,
    costs,
    accuracies: heads?.accuracies ?? [],
    staticTrees: heads?.staticTrees,
    openConditional: heads?.conditional && conditionalOpener(place.folder, heads.conditional),
  };
}

/**
 * Opens a model with as many threads as other programs leave room for.
 *
 * @param best threads on a calm machine
 * @param room what was looked at since a while, and the size of the model's files
 */
async function openWithin(
  spec: OpenOptions,
  best: number,
  { others, bytes }: { others: OtherPrograms; bytes: number },
  options: EngineOptions,
  report: Report,
): Promise<{ model: OpenModel; threads: ThreadsInUse | undefined; now: number }> {
  const { openModel } = await import('../runtime/index.js');
  const follows = spec.provider === 'cpu' && options.threads === undefined && options.followLoad !== false;
  const processors = availableProcessors();
  const busy = follows && others.elapsed >= leastWindow ? (others.busyProcessors() ?? 0) : 0;
  const now = threadsFor({ best, processors }, busy);
  if (now < best) report.note(busyNote(busy, processors, now, best));
  const begin = performance.now();
  const model = await openModel({ ...spec, threads: now });
  const opening = performance.now() - begin;
  const use = follows ? model.useThreads?.bind(model) : undefined;
  const hasRoom = (): boolean => process.availableMemory() > roomFactor * bytes;
  return { model, threads: use && new ThreadsInUse({ best, now, processors, opening, use, hasRoom }), now };
}

/** Times the size of a model's files that opening it a second time may take. */
const roomFactor = 2;
/** Milliseconds of looking at other programs that say something. */
const leastWindow = 100;

function busyNote(busy: number, processors: number, now: number, best: number): string {
  return (
    `Other programs keep ${busy.toFixed(1)} of ${processors} processors busy: ` +
    `${now} ${now === 1 ? 'thread' : 'threads'} instead of ${best}, until they do not (--threads ${best} keeps ${best}).`
  );
}

/** What to expect where a row's result depends on the rows beside it. */
function inexactRows(precision: string): string {
  return (
    `On this machine rows of precision ${precision} depend on how many run together: with trees, greedy text may ` +
    'differ from that of plain decoding.'
  );
}

/** The table is opened when it is first wanted: products do without its memory. */
function conditionalOpener(folder: string, entry: ConditionalEntry): () => Promise<OpenConditional> {
  return async () => (await import('../models/conditional.js')).openConditional(folder, entry);
}

/** The runtime's view of the chosen graphs; threads are filled in later. */
function openOptions(
  folder: string,
  { model }: Manifest,
  { backbone, heads, keep }: ChosenGraphs,
  options: EngineOptions & { provider: 'cpu' | 'cuda' },
): OpenOptions {
  return {
    shape: model,
    backbone: { ...backbone, path: join(folder, backbone.file) },
    heads: heads && { ...heads, path: join(folder, heads.file) },
    keep: keep && { ...keep, path: join(folder, keep.file) },
    provider: options.provider,
    threads: 0,
    ortLibrary: options.ortLibrary,
    maxNodes: Math.max(mostAutoNodes, options.maxNodes ?? 0),
  };
}
