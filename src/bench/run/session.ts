/** From options to finished run folders: opens engines and folders, runs the lanes, closes everything. */
import { MedusaError } from '../../util/errors.js';
import type { PromptOptions } from '../../engine/options/generateOptions.js';
import type { ModelOptions } from '../../engine/options/modelOptions.js';
import { resolveDecodingOptions } from '../../engine/options/resolve.js';
import { packageVersion } from '../../util/packageRoot.js';
import type { BenchEngine } from '../engine.js';
import type { Question, QuestionSet } from '../questions/parse.js';
import { environment, loadAverage, machineIdentity, modelIdentity } from './environment.js';
import { readRunInfo, refuseFile, RunFolder } from './folder.js';
import type { RunInfo } from './formats.js';
import { RunProgress } from './progress.js';
import { runLanes, type Lane } from './runner.js';
import type { OnError, TemperatureRule } from './plan.js';
import { runDecoding, slug, type Variant } from './variants.js';

export interface SessionRequest {
  readonly set: QuestionSet;
  readonly questions: readonly Question[];
  readonly variants: readonly Variant[];
  /** Folder of each variant. */
  readonly folderOf: (variant: Variant) => string;
  readonly temperature: TemperatureRule;
  readonly seed: number;
  readonly repeats: number;
  readonly keepDrafts?: boolean;
  readonly raw?: boolean;
  readonly thinking?: PromptOptions['thinking'];
  readonly onError?: OnError;
  readonly shard?: string;
  readonly trace: boolean;
  readonly modelId?: string;
  readonly quiet: boolean;
  readonly signal?: AbortSignal;
  /** Opens an engine; called once for each set of model options. */
  readonly openEngine: (options: ModelOptions) => Promise<OpenEngine>;
}

export interface OpenEngine {
  readonly engine: BenchEngine;
  readonly tokenText?: (ids: readonly number[]) => string;
}

/** Runs all variants. Returns false when it was interrupted. */
export async function runSession(request: SessionRequest): Promise<boolean> {
  const engines = new Map<string, OpenEngine>();
  const lanes: Lane[] = [];
  let status: RunInfo['status'] = 'failed';
  try {
    const planned: PlannedLane[] = [];
    // All options are checked before the first folder is made.
    for (const variant of await withKeptThreads(request))
      planned.push(await planLane(variant, request, engines));
    for (const lane of planned) lanes.push(await openLane(lane, request));
    status = (await runWithProgress(lanes, request)) ? 'complete' : 'interrupted';
  } catch (error) {
    if (request.signal?.aborted) status = 'interrupted';
    throw error;
  } finally {
    await closeAll(lanes, engines, status);
  }
  return status === 'complete';
}

interface PlannedLane extends OpenEngine {
  readonly variant: Variant;
  readonly info: RunInfo;
}

/**
 * The variants with the threads that their folders were begun with, where none are asked for: measured again, others may be
 * the fastest. A new folder beside them takes those of the first.
 */
async function withKeptThreads({ variants, folderOf }: SessionRequest): Promise<Variant[]> {
  const kept: (number | undefined)[] = [];
  for (const variant of variants) {
    const folder = folderOf(variant);
    await refuseFile(folder);
    kept.push((await readRunInfo(folder))?.machine.threads);
  }
  const first = kept.find((threads) => threads !== undefined);
  return variants.map(({ model, ...variant }, index) => {
    const threads = model.threads ?? kept[index] ?? first;
    return { ...variant, model: threads === undefined ? model : { ...model, threads } };
  });
}

async function planLane(
  variant: Variant,
  request: SessionRequest,
  engines: Map<string, OpenEngine>,
): Promise<PlannedLane> {
  const key = JSON.stringify(variant.model);
  const open = engines.get(key) ?? (await request.openEngine(variant.model));
  engines.set(key, open);
  return { ...open, variant, info: await freshInfo(variant, request, open.engine) };
}

async function openLane({ variant, info, ...open }: PlannedLane, request: SessionRequest): Promise<Lane> {
  const folder = await RunFolder.open(request.folderOf(variant), info, request.set.bytes);
  return { name: variant.name, ...open, decoding: info.decoding, folder, trace: request.trace };
}

async function freshInfo(variant: Variant, request: SessionRequest, engine: BenchEngine): Promise<RunInfo> {
  const { facts } = engine;
  const { temperature } = request;
  const surroundings = await environment(facts);
  const resolved = resolveDecodingOptions(
    { ...variant.decoding, temperature: temperature === 'fastchat' ? 0.7 : temperature },
    facts,
  );
  return {
    format: 1,
    version: packageVersion(),
    model: await modelIdentity(facts),
    decoding: runDecoding(resolved, variant.decoding),
    protocol: {
      temperature,
      seed: request.seed,
      repeats: request.repeats,
      shard: request.shard ?? null,
      keep_drafts: request.keepDrafts === true,
      raw: request.raw === true,
      thinking: request.thinking ?? null,
      trace: request.trace,
      model_id: request.modelId ?? `${facts.model}-${slug(variant.name)}`,
    },
    questions: {
      name: request.set.name,
      sha256: request.set.sha256,
      ids: request.questions.map((question) => question.question_id),
    },
    machine: machineIdentity(facts),
    status: 'running',
    environment: surroundings,
    cost_curve: facts.costs,
    sessions: [
      {
        started: new Date().toISOString(),
        ended: null,
        finished_questions: 0,
        load_average: loadAverage(),
        git_commit: textOrNull(surroundings.git_commit),
      },
    ],
  };
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

async function runWithProgress(lanes: readonly Lane[], request: SessionRequest): Promise<boolean> {
  const progress = new RunProgress(process.stderr, request.quiet);
  const done = request.questions.map(
    (question) => lanes.filter((lane) => lane.folder.has(question.question_id)).length,
  );
  progress.start(
    request.questions.length * lanes.length,
    done.reduce((total, count) => total + count, 0),
  );
  try {
    return await runLanes(
      lanes,
      request,
      {
        onWarmUp: (lane) => progress.note(`warm-up ${lane.name}`),
        onTurn: (_lane, turn) => progress.turn(turn),
        onQuestion: (lane, question) => {
          progress.note(`question ${question.question_id} ${lane.name}`);
          progress.question();
        },
        onSkip: (lane, { question_id }) => {
          progress.note(`skipped ${question_id} ${lane.name}`);
          progress.question();
        },
      },
      request.signal,
    );
  } finally {
    progress.stop();
  }
}

/** Closes what is open. When the run failed, that error is the one to show, not one of closing. */
async function closeAll(
  lanes: readonly Lane[],
  engines: ReadonlyMap<string, OpenEngine>,
  status: RunInfo['status'],
): Promise<void> {
  const closing = [
    // The last first: folders that are given up take with them the one that the first was made in.
    ...[...lanes].reverse().map((lane) => () => lane.folder.close(status)),
    ...[...engines.values()].map(
      ({ engine }) =>
        () =>
          engine.dispose(),
    ),
  ];
  const results: PromiseSettledResult<void>[] = [];
  for (const close of closing) results.push(...(await Promise.allSettled([close()])));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed && status !== 'failed') {
    throw failed.reason instanceof Error ? failed.reason : new MedusaError(String(failed.reason));
  }
}
