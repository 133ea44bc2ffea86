import { existsSync } from 'node:fs';
import { mkdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { chatTemplateText } from '../engine/text/builtinTemplates.js';
import { checkTemplate } from '../engine/text/chatTemplate.js';
import { MedusaError, ModelError, UsageError } from '../util/errors.js';
import { committedHeads } from '../models/headsFiles.js';
import { adaptedName, adapterName, checkAdapter } from './adapters.js';
import { checkSource } from './checkSource.js';
import { checkTarget } from './checkTarget.js';
import { fetchDefaultWeights } from './defaultWeights.js';
import { sha256Of } from '../util/sha256.js';
import { diskFullHint, explainDiskError } from './diskErrors.js';
import { number, object, optional, text, tryJson } from '../util/json.js';
import { defaultModelName } from '../models/defaultModel.js';
import { modelNameOf } from '../models/checkpoint.js';
import { checkModelName } from '../models/locate.js';
import { checkPrecision } from '../models/precisions.js';
import { takeLock } from '../util/lock.js';
import { manifestName } from '../models/fileNames.js';
import { checkFiles, readManifest } from '../models/manifest.js';
import type { Manifest } from '../models/manifestSchema.js';
import { hidden, lockFile, partialFolder, removeFolder, removePartialFolders } from './partialFolders.js';
import {
  firstPart,
  hubNameOfPath,
  localSourceName,
  sameSourceName,
  sourceNameOf,
} from '../models/hubName.js';
import { commitOf, isOfRevision } from '../models/hubRevision.js';
import { hubNameAsked, localPath, tellNamesake } from './hub.js';
import type { Report } from '../util/progressReport.js';
import { exportEnvironment, findPython, runModule, type Python } from './python.js';
import { ensureRequirements, exporterRequirements } from './pythonPackages.js';

export interface PrepareOptions {
  readonly modelsDir: string;
  /**
   * HF folder, GGUF file, or a name on the Hugging Face hub (OWNER/NAME[@REVISION][:FILE.gguf]); the default model's
   * weights otherwise.
   */
  readonly from?: string;
  /** Name of the model; from the source's and the adapter's names otherwise. */
  readonly id?: string;
  /** Backbone precisions; those the model has already are kept. */
  readonly precisions?: readonly string[];
  /** MEDUSA-2 adapter to merge into the weights. */
  readonly adapter?: string;
  /**
   * Heads files, folders, or names on the hub; those beside the adapter, committed for the model, or in its own folder otherwise. An empty
   * list: none.
   */
  readonly heads?: readonly string[];
  /** Chat template to keep in the model in place of its own: a built-in one's name, or a file. */
  readonly chatTemplate?: string;
  /** Make it again even if it is there. */
  readonly force?: boolean;
  /** Install the exporter's Python packages again too. */
  readonly reinstall?: boolean;
  readonly signal?: AbortSignal;
}

export interface PreparedModel {
  readonly name: string;
  readonly folder: string;
  readonly manifest: Manifest;
  /** False when it was there already. */
  readonly isNew: boolean;
}

/**
 * Fetches (for the default model), converts and exports a model into `modelsDir/<id>`.
 *
 * The folder appears whole, by a rename, or not at all. What was fetched is kept, so a run after an interrupted one
 * goes on from there. A lock keeps two preparations of one model apart: the second waits and finds it made.
 */
export async function prepareModel(given: PrepareOptions, report: Report): Promise<PreparedModel> {
  const options = given.from === undefined ? given : { ...given, from: wholeOf(given.from) };
  const { signal } = options;
  const modelsDir = resolve(options.modelsDir);
  options.precisions?.forEach(checkPrecision);
  if (options.id !== undefined) checkModelName(options.id, '--id');
  for (const given of [options.from ?? [], options.heads ?? []].flat()) tellNamesake(given, report);
  if (options.from !== undefined && hubNameAsked(options.from) === undefined) await checkSource(options.from);
  if (options.adapter !== undefined) await checkAdapter(options.adapter);
  const named = options.adapter === undefined ? '--from' : '--from or --adapter';
  const name = options.id ?? checkModelName(nameOf(options.from, options.adapter), named);
  const template = options.chatTemplate && (await chatTemplateText(options.chatTemplate));
  if (template) checkTemplate(options.chatTemplate, template);
  checkName(name, options.from, options.adapter);
  let made: string | undefined;
  try {
    made = await mkdir(modelsDir, { recursive: true });
    const release = await takeLock(lockFile(modelsDir, name), {
      signal,
      onWait: (holder) => report.note(`Process ${holder} is preparing ${name}: waiting for it.`),
    });
    try {
      return await prepareLocked(name, { ...options, modelsDir, chatTemplate: template }, report);
    } finally {
      await release();
    }
  } catch (error) {
    if (made !== undefined) await removeEmpty(modelsDir, made);
    throw error instanceof MedusaError ? error : explainDiskError(error, modelsDir);
  }
}

/** Removes the folders from `last` up to `first` that nothing was put into. */
async function removeEmpty(last: string, first: string): Promise<void> {
  for (let folder = last; folder.length >= first.length; folder = dirname(folder)) {
    const isGone = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!isGone) return;
  }
}

/** Of a GGUF model in parts the first one, where it is there; else what was given. */
const wholeOf = (from: string): string => (existsSync(firstPart(from)) ? firstPart(from) : from);

/** Without --from the weights are the default model's: with an adapter they may bear any name but its own. */
function checkName(name: string, from: string | undefined, adapter: string | undefined): void {
  if (adapter !== undefined && name === defaultModelName) {
    throw new UsageError(
      `--id ${name} is the model without an adapter; with ${basename(adapter)} it is another one. ` +
        `Leave --id out (${adaptedName(name, adapter)}) or give another name.`,
    );
  }
  if (from !== undefined || adapter !== undefined || name === defaultModelName) return;
  throw new UsageError(`--id ${name} needs --from: only ${defaultModelName} can be fetched without it.`);
}

async function prepareLocked(name: string, options: PrepareOptions, report: Report): Promise<PreparedModel> {
  const folder = join(options.modelsDir, name);
  await removeLeftovers(options.modelsDir, name);
  const present = await presentManifest(folder, options.force === true);
  if (present !== undefined && !options.force) await checkSameSource(name, present, options);
  const precisions = wantedPrecisions(options.precisions, present);
  if (present !== undefined && !options.force && !lacks(present, precisions, options)) {
    return { name, folder, manifest: present, isNew: false };
  }
  if (present !== undefined && !options.force) {
    const there = wantedPrecisions([], present).join(', ');
    report.note(`${name} is there already; its graphs (${there}) are exported again too.`);
  }
  const given = [options.from ?? [], options.heads ?? [], options.adapter ?? []].flat();
  checkTarget(folder, given);
  const python = await findPython();
  const requirements = await ensureRequirements(python, exporterRequirements, options.modelsDir, {
    again: options.reinstall,
    signal: options.signal,
    onInstall: () => report.begin('Installing the Python packages of the exporter'),
    onNote: (message) => report.note(message),
  });
  const fetching = { ...options, python, requirements };
  const source =
    options.from === undefined
      ? await fetchDefaultWeights(python, options.modelsDir, report, options.signal)
      : await localPath(options.from, 'model', fetching, report);
  const heads: string[] = [];
  for (const each of await headsFor(name, options.heads, options.adapter))
    heads.push(await localPath(each, 'heads', fetching, report));
  const partial = partialFolder(hidden(options.modelsDir, name));
  try {
    const replaces = present && folder;
    const run = { python, requirements, source, heads, partial, name, precisions, replaces };
    await runExporter(run, options, report);
    const manifest = await checkExported(partial);
    // Minutes have gone by.
    checkTarget(folder, given);
    await replaceFolder(partial, folder);
    return { name, folder, manifest, isNew: true };
  } finally {
    await removeLeftovers(options.modelsDir, name);
  }
}

const oldFolder = (modelsDir: string, name: string): string => `${hidden(modelsDir, name)}.old`;

/** What unfinished preparations and exporters left. The lock is held, so nobody is using it. */
async function removeLeftovers(modelsDir: string, name: string): Promise<void> {
  const [folder, old] = [join(modelsDir, name), oldFolder(modelsDir, name)];
  // Killed between the two renames of `replaceFolder`: the old folder is the model.
  if (existsSync(old) && !existsSync(folder)) await rename(old, folder);
  await removeFolder(old);
  await removePartialFolders(hidden(modelsDir, name));
}

/** The manifest of the model when it is there. A damaged one is an error unless it is to be replaced anyway. */
async function presentManifest(folder: string, isForced: boolean): Promise<Manifest | undefined> {
  if (!existsSync(join(folder, manifestName))) return undefined;
  try {
    return await readManifest(folder);
  } catch (error) {
    if (isForced) return undefined;
    throw error;
  }
}

/** The asked precisions and those that are there: a new one must not cost an old one. None: the exporter's default. */
function wantedPrecisions(asked: readonly string[] | undefined, present: Manifest | undefined): string[] {
  const there = present?.backbones.map((backbone) => backbone.precision) ?? [];
  return [...new Set([...there, ...(asked ?? [])])];
}

function lacks(present: Manifest, precisions: readonly string[], options: PrepareOptions): boolean {
  const there = new Set(present.backbones.map((backbone) => backbone.precision));
  return (
    precisions.some((precision) => !there.has(precision)) ||
    options.heads !== undefined ||
    options.chatTemplate !== undefined
  );
}

/** A model must not be taken for another one that happens to have its name. */
async function checkSameSource(
  name: string,
  { source }: Manifest,
  { from, adapter }: PrepareOptions,
): Promise<void> {
  const fix = 'Give another name with --id, or replace it with --force.';
  const hub = from === undefined ? undefined : (hubNameAsked(from) ?? hubNameOfPath(from));
  const isSame =
    hub === undefined
      ? localSourceName(from ?? '') === firstPart(source.name)
      : sameSourceName(sourceNameOf(hub), source.name);
  if (from !== undefined && !isSame) {
    throw new UsageError(`Model ${name} is there already and was made from ${source.name}. ${fix}`);
  }
  // What the cache has now goes before what had that name then.
  const commit = hub && commitOf(hub);
  const made = commit === undefined ? source : { revision: source.revision };
  if (hub !== undefined && source.revision !== undefined && !isOfRevision(hub, made)) {
    throw new UsageError(
      `Model ${name} is there already and was made from ${source.name} at ${source.revision}; asked for is ` +
        `${commit ?? hub.revision}. ${fix}`,
    );
  }
  const asked = adapter === undefined ? undefined : await sha256Of(adapter);
  if (asked === source.adapter?.sha256) return;
  const label = (of: string | undefined, sha256: string | undefined): string =>
    of === undefined ? 'without an adapter' : `with the adapter ${of} (sha256 ${sha256?.slice(0, 12)}...)`;
  throw new UsageError(
    `Model ${name} is there already and was made ${label(source.adapter?.name, source.adapter?.sha256)}; asked ` +
      `for is ${label(adapter && adapterName(adapter), asked)}. ${fix}`,
  );
}

/** smollm2-135m-instruct.Q4_1.gguf -> smollm2-135m-instruct.Q4_1; a folder's name otherwise. An adapter adds its own. */
function nameOf(from: string | undefined, adapter: string | undefined): string {
  const base = from === undefined ? defaultModelName : modelNameOf(from);
  return adapter === undefined ? base : adaptedName(base, adapter);
}

/**
 * The heads to export: as asked, else those trained with the adapter, else all that are committed for this model. Where
 * none are named, the exporter takes those that a model folder holds itself.
 */
export async function headsFor(
  name: string,
  asked: readonly string[] | undefined,
  adapter?: string,
): Promise<string[]> {
  if (asked !== undefined) {
    for (const file of asked) {
      if (!existsSync(file) && hubNameAsked(file) === undefined)
        throw new UsageError(`--heads ${file}: there is no such file or folder.`);
    }
    return [...asked];
  }
  if (adapter !== undefined) {
    const beside = join(dirname(adapter), `${adapterName(adapter)}.safetensors`);
    return existsSync(beside) ? [beside] : [];
  }
  return committedHeads(name);
}

interface ExporterRun {
  python: Python;
  requirements: string;
  source: string;
  heads: readonly string[];
  partial: string;
  name: string;
  precisions: readonly string[];
  /** The folder of the model that is there: what is not asked for stays. */
  replaces: string | undefined;
}

/** One line of the exporter's stdout. */
const exporterLine = object({
  stage: optional(text),
  done: optional(number),
  total: optional(number),
  /** About how many bytes of memory the conversion takes; in one line, before it takes them. */
  memory: optional(number),
});

async function runExporter(run: ExporterRun, options: PrepareOptions, report: Report): Promise<void> {
  // Children do not run in the user's working directory.
  const args = ['--output', run.partial, '--from', resolve(run.source), '--id', run.name];
  for (const precision of run.precisions) args.push('--precision', precision);
  const hub = options.from === undefined ? undefined : hubNameAsked(options.from);
  if (hub !== undefined) args.push('--revision-asked', hub.revision ?? 'main');
  if (run.replaces !== undefined) args.push('--replaces', run.replaces);
  if (run.replaces !== undefined && options.heads === undefined) args.push('--keep-heads');
  if (options.adapter !== undefined) args.push('--adapter', resolve(options.adapter));
  if (options.chatTemplate !== undefined) args.push('--chat-template', options.chatTemplate);
  if (await wantsUnsignedWeights()) args.push('--unsigned-weights');
  for (const file of run.heads) args.push('--heads', resolve(file));
  // Without a word about heads the exporter takes those that the model folder holds.
  if (options.heads?.length === 0) args.push('--heads', 'none');
  let stage = '';
  let memory: number | undefined;
  report.begin('Converting and exporting');
  const child = await runModule(run.python, 'medusa_export', ['prepare', ...args], {
    environment: exportEnvironment(run.requirements),
    signal: options.signal,
    onLine: (output) => {
      const line = tryJson(exporterLine, output);
      // Python's libraries may write lines of their own.
      if (line === undefined) return;
      memory = line.memory ?? memory;
      if (line.stage?.startsWith('Note: ')) return report.note(line.stage);
      if (line.stage !== undefined && line.stage !== stage) report.begin((stage = line.stage));
      if (line.done !== undefined && line.total) report.progress(line.done / line.total);
    },
  });
  if (child.code === 0) return;
  if (child.code === null || child.code === killedCode)
    throw new ModelError(endedFromOutside(run.source, memory));
  const last = child.errorTail.split('\n').findLast((line) => line.trim() !== '') ?? 'no message';
  const why = last.replace(/^.*?error:\s*/, '').replace(/\.?\s*$/, '.');
  const message = `The exporter refused: ${why}${diskFullHint(child.errors)}`;
  throw child.code === exporterUsageCode ? new UsageError(message) : new ModelError(message);
}

/** Whether sessions here would turn int8 weights into uint8 each time they are opened. */
async function wantsUnsignedWeights(): Promise<boolean> {
  const { int8Products } = await import('../runtime/index.js');
  // Where ONNX Runtime does not run, a model may be made for another machine.
  return (await int8Products().catch(() => undefined)) === 'unsigned';
}

/** An exporter that a signal ended says nothing itself. Where memory runs out, Linux sends SIGKILL. */
function endedFromOutside(source: string, memory: number | undefined): string {
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const needed =
    memory === undefined ? '' : ` Converting ${basename(source)} takes about ${gigabytes(memory)};`;
  return (
    'The exporter was ended from outside before it was done, most likely by the system because memory ran out.' +
    `${needed} ${gigabytes(process.availableMemory())} are free now. ` +
    'Close other programs, or prepare the model on a larger machine and copy its folder.'
  );
}

/** What a shell between us and Python makes of SIGKILL. */
const killedCode = 128 + 9;

/** argparse's exit code for wrong arguments. */
const exporterUsageCode = 2;

async function checkExported(folder: string): Promise<Manifest> {
  const manifest = await readManifest(folder);
  for (const graph of [...manifest.backbones, ...manifest.keep, ...manifest.heads])
    await checkFiles(folder, graph);
  return manifest;
}

async function replaceFolder(partial: string, folder: string): Promise<void> {
  const old = oldFolder(dirname(folder), basename(folder));
  if (existsSync(folder)) await rename(folder, old);
  await rename(partial, folder);
  await rm(old, { recursive: true, force: true });
}
