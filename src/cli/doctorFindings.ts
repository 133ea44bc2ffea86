import type { CostPoint } from '../decoding/policy/costCurve.js';
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { MedusaEngine } from '../engine/engine.js';
import { defaultModelName } from '../models/defaultModel.js';
import { verifyFiles } from '../models/fileHashes.js';
import { newerHeads } from '../models/headsFiles.js';
import { preparedModels, whatIsIn } from '../models/locate.js';
import { modelsFolder } from '../models/modelsFolder.js';
import { readManifest } from '../models/manifest.js';
import type { Manifest } from '../models/manifestSchema.js';
import { int8Precisions } from '../models/precisions.js';
import { prepareCommand } from '../models/prepareCommand.js';
import { findPython } from '../prepare/python.js';
import { formerNameNotes, readVariable } from '../util/environment.js';
import { silentReport } from '../util/progressReport.js';
import { CUDA_PROVIDER, LIBRARY_VARIABLE, locateCudaLibrary } from '../runtime/cuda/ortLibrary.js';
import { int8Products } from '../runtime/index.js';
import { availableProcessors } from '../util/processors.js';
import { gibibytes } from '../runtime/cuda/memoryEstimate.js';
import { cpuFeatures } from '../runtime/cpu/facts.js';
import { cudaMemory, cudaProviderFacts, gpuFacts, libraryFacts, nodeRuntimeFacts } from '../runtime/facts.js';

/** One thing that was looked at. `absent` is no fault: it is not needed by default. */
export interface Finding {
  readonly state: 'ok' | 'absent' | 'broken';
  readonly what: string;
  readonly detail: string;
}

export interface ExamineOptions {
  readonly modelsDir?: string;
  readonly ortLibrary?: string;
  /** Measure what a step costs, for each CPU precision of each model. */
  readonly measure?: boolean;
}

/** Looks at everything the program depends on. */
export async function examine(options: ExamineOptions): Promise<Finding[]> {
  const modelsDir = modelsFolder(options.modelsDir);
  return [
    await examineOrt(),
    examineProcessor(),
    await examineInt8(),
    await examineCuda(options.ortLibrary),
    await examineGpu(),
    await examinePython(existsSync(join(modelsDir, defaultModelName))),
    ...(await examineModels(modelsDir, options.measure === true)),
    ...formerNameNotes().map((detail): Finding => ({ state: 'absent', what: 'Environment', detail })),
  ];
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The library onnxruntime-node brings: it is what the CPU provider runs on. */
async function examineOrt(): Promise<Finding> {
  const what = 'ONNX Runtime';
  const { version, library } = nodeRuntimeFacts();
  if (library === undefined) {
    const detail = `onnxruntime-node ${version} has no library for ${process.platform} ${process.arch}`;
    return { state: 'broken', what, detail };
  }
  // Without koffi, an optional dependency, the library cannot be asked; the models below show whether it works.
  const facts = await libraryFacts(library);
  return { state: 'ok', what, detail: `${facts.version ?? version}, ${library}` };
}

function examineProcessor(): Finding {
  const model = cpus()[0]?.model.trim() ?? process.arch;
  const detail = [model, `${availableProcessors()} threads`, cpuFeatures().join(' ')].filter(
    (part) => part !== '',
  );
  return { state: 'ok', what: 'CPU', detail: detail.join(', ') };
}

/** What the products of the int8 graphs are like on this machine, as found by running them. */
async function examineInt8(): Promise<Finding> {
  const what = 'int8 products';
  const vnni = cpuFeatures().filter((flag) => flag.endsWith('vnni'));
  const details = {
    exact: vnni.length > 0 ? `exact, VNNI (${vnni.join(', ')})` : 'exact',
    unsigned:
      'exact, without VNNI: weights are kept as uint8, and a step takes about 1.3 (one row) to 2.2 times (64 rows) as long as with VNNI',
    saturating: 'not exact: large values saturate, and answers suffer. Use --precision fp32',
  };
  try {
    const found = await int8Products();
    return { state: found === 'saturating' ? 'broken' : 'ok', what, detail: details[found] };
  } catch (error) {
    return { state: 'broken', what, detail: textOf(error) };
  }
}

/** The GPU build of ONNX Runtime, when one is pointed at. */
async function examineCuda(ortLibrary: string | undefined): Promise<Finding> {
  const what = 'CUDA';
  if (!(ortLibrary ?? readVariable(LIBRARY_VARIABLE))) {
    return {
      state: 'absent',
      what,
      detail: `no GPU build of ONNX Runtime given (--ort-library or ${LIBRARY_VARIABLE})`,
    };
  }
  try {
    const library = locateCudaLibrary(ortLibrary);
    const { version, providers, error } = await libraryFacts(library);
    if (error !== undefined) return { state: 'broken', what, detail: error };
    const detail = `ONNX Runtime ${version}, ${library}, providers ${providers?.join(', ')}`;
    if (!providers?.includes(CUDA_PROVIDER))
      return { state: 'broken', what, detail: `${detail}: built without CUDA` };
    const provider = await cudaProviderFacts(library);
    if (provider === undefined) {
      return { state: 'broken', what, detail: `${detail}; its CUDA provider library is not beside it` };
    }
    if (provider.missing.length > 0) {
      const missing = `missing: ${provider.missing.join(', ')} (${remedyForMissing(provider.missing)})`;
      return { state: 'broken', what, detail: `${detail}; ${missing}` };
    }
    const { free, total } = await cudaMemory();
    return { state: 'ok', what, detail: `${detail}; ${gibibytes(free)} of ${gibibytes(total)} free` };
  } catch (error) {
    return { state: 'broken', what, detail: textOf(error) };
  }
}

/** What to do about libraries that the loader does not find. */
export function remedyForMissing(missing: readonly string[]): string {
  const ofDriver = missing.filter((name) => name.startsWith('libcuda.so'));
  const remedies = [];
  if (ofDriver.length > 0) remedies.push(`${ofDriver.join(', ')} comes with the NVIDIA driver`);
  if (missing.length > ofDriver.length)
    remedies.push('install CUDA 13, or put the folders of its libraries on LD_LIBRARY_PATH');
  return remedies.join('; ');
}

async function examineGpu(): Promise<Finding> {
  const gpus = (await gpuFacts()) ?? [];
  if (gpus.length === 0) return { state: 'absent', what: 'GPU', detail: 'none found by nvidia-smi' };
  const detail = gpus
    .map(({ name, memoryMiB, driver }) => `${name}, ${memoryMiB} MiB, driver ${driver}`)
    .join('; ');
  return { state: 'ok', what: 'GPU', detail };
}

/** Python is needed to prepare a model only. */
async function examinePython(isPrepared: boolean): Promise<Finding> {
  try {
    const { program, version } = await findPython();
    return { state: 'ok', what: 'Python', detail: `${version}, ${program} (used by prepare)` };
  } catch (error) {
    return { state: isPrepared ? 'absent' : 'broken', what: 'Python', detail: textOf(error) };
  }
}

async function examineModels(modelsDir: string, measure: boolean): Promise<Finding[]> {
  const names = preparedModels(modelsDir);
  const there = names.length === 0 ? `: ${whatIsIn(modelsDir)}` : '';
  const findings: Finding[] = [{ state: 'ok', what: 'Models folder', detail: `${modelsDir}${there}` }];
  if (!names.includes(defaultModelName)) {
    const measured = measure && names.length === 0 ? '; there is nothing to measure yet' : '';
    const detail = `not prepared yet; the first command that needs it does so (or: medusa-plus prepare)${measured}`;
    findings.push({ state: 'absent', what: defaultModelName, detail });
  }
  for (const name of names) findings.push(await examineModel(modelsDir, name, measure));
  return findings;
}

/** Every file against the manifest, then a real run: opening and one token. */
async function examineModel(modelsDir: string, name: string, measure: boolean): Promise<Finding> {
  // Only the default model is part of the default set-up.
  const broken = name === defaultModelName ? 'broken' : 'absent';
  const folder = join(modelsDir, name);
  try {
    const manifest = await readManifest(folder);
    await verifyFiles(folder, manifest);
    const newer = await newerHeads(folder, manifest, name);
    if (newer.length > 0) {
      const detail = `heads ${newer.join(', ')} are newer than the model: ${prepareCommand(folder, '--force')}`;
      return { state: broken, what: name, detail };
    }
    const usual = manifest.defaults.cpu?.backbone;
    const ofCpu = manifest.backbones.filter(({ layout }) => layout === 'split').map((each) => each.precision);
    const tried = measure ? ofCpu : ofCpu.filter((precision) => precision === usual);
    const notes: string[] = [];
    for (const precision of tried) notes.push(await tryModel(folder, precision, measure));
    notes.push(...(await describeWeights(folder, manifest)));
    return { state: 'ok', what: name, detail: [describeFiles(manifest), ...notes].join('; ') };
  } catch (error) {
    return { state: broken, what: name, detail: textOf(error) };
  }
}

/** Opens a model and has it make two tokens; says whether trees keep its greedy text. */
async function tryModel(folder: string, precision: string, measureAgain: boolean): Promise<string> {
  const engine = await MedusaEngine.open({ model: folder, precision, measureAgain, report: silentReport });
  try {
    await engine.complete('Hi', { maxNewTokens: 2, raw: true });
    const { exactRows, threads, calmThreads, costs } = engine.facts;
    const kept = exactRows ? 'trees keep its greedy text' : 'with trees its greedy text may change';
    const measured = measureAgain ? `: ${describeCosts(costs)}` : '';
    const fewer = threads < calmThreads ? ` (${calmThreads} while other programs are not busy)` : '';
    return `${precision} runs on ${threads} ${threads === 1 ? 'thread' : 'threads'}${fewer}, ${kept}${measured}`;
  } finally {
    await engine.dispose();
  }
}

/** What verifying 1 to 64 nodes takes. */
function describeCosts(costs: readonly CostPoint[]): string {
  const shown = costs.filter(({ nodes }) => [1, 2, 4, 8, 16, 32, 64].includes(nodes));
  const times = shown.map(({ nodes, milliseconds }) => `${milliseconds.toFixed(1)} (n = ${nodes})`);
  return `milliseconds a step ${times.join(', ')}`;
}

/** Whether int8 weights are kept for another kind of processor. Either kind gives the same answers. */
async function describeWeights(folder: string, { backbones }: Manifest): Promise<string[]> {
  const wanted = (await int8Products()) === 'unsigned';
  const others = backbones.filter(
    ({ precision, unsignedWeights }) => int8Precisions.includes(precision) && unsignedWeights !== wanted,
  );
  if (others.length === 0) return [];
  const names = others.map(({ precision }) => precision).join(' and ');
  const were = others.length === 1 ? 'was' : 'were';
  const what = wanted
    ? `${names} ${were} made for processors with VNNI and could open faster here`
    : `${names} ${were} made for processors without VNNI and could run faster here`;
  return [`${what}: ${prepareCommand(folder, '--force')}`];
}

/** What it is stands in the table of the prepared models. */
function describeFiles({ tokenizer }: Manifest): string {
  const isOld = tokenizer.configSha256 === undefined;
  const old =
    ' (made before all files were hashed: prepare it again with --force to have every change noticed)';
  return `files whole${isOld ? old : ''}`;
}
