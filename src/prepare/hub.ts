import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { hubNameOfPath, isHubFolder, parseHubName, sourceNameOf, type HubName } from '../models/hubName.js';
import { ModelError } from '../util/errors.js';
import { object, optional, number, text, tryJson } from '../util/json.js';
import type { Report } from '../util/progressReport.js';
import { hubCacheFolder } from '../models/hubRevision.js';
import { findInCache, isOffline, type Wanted } from './hubCache.js';
import { diskFullHint } from './diskErrors.js';
import { exportEnvironment, runModule, type Python } from './python.js';
import { ensureRequirements } from './pythonPackages.js';

/** The packages that fetch from the hub; installed when something is fetched for the first time. */
const hubRequirements = 'requirements-hub.lock';

/**
 * The name on the Hugging Face hub that is meant: by one that looks so and is no path here, or by the folder of a
 * repository in the cache. Undefined where a file or folder itself is meant.
 */
export function hubNameAsked(given: string): HubName | undefined {
  if (!existsSync(given)) return parseHubName(given);
  return isHubFolder(given) ? hubNameOfPath(given) : undefined;
}

/** Says so where a file or folder here hides what bears its name on the hub. `./OWNER/NAME` is no such name. */
export function tellNamesake(given: string, report: Pick<Report, 'note'>): void {
  if (existsSync(given) && parseHubName(given) !== undefined)
    report.note(`${given} is taken from the folder here, not from the Hugging Face hub.`);
}

/** What fetching needs. */
export interface Fetching {
  readonly python: Python;
  /** Folder of the exporter's packages. */
  readonly requirements: string;
  readonly modelsDir: string;
  readonly reinstall?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * The path of a checkpoint or of heads: as given, or in the cache of the Hugging Face hub, where it is fetched to when
 * it is not whole there.
 */
export async function localPath(
  given: string,
  wanted: Wanted,
  fetching: Fetching,
  report: Report,
): Promise<string> {
  const hub = hubNameAsked(given);
  if (hub === undefined) return given;
  const root = existsSync(given) ? given : undefined;
  const cached = await findInCache(hub, wanted, root);
  if (cached !== undefined) {
    if (root === undefined)
      report.note(`${sourceNameOf(hub)} is taken from the Hugging Face cache: ${cached}`);
    return cached;
  }
  if (root !== undefined) {
    throw new ModelError(
      `${given} holds no whole snapshot of ${hub.repository}. Fetch what is missing: give ${hub.repository} instead.`,
    );
  }
  const at = hub.revision === undefined ? '' : ` at ${hub.revision}`;
  const notHere = `There is no file or folder ${given} here`;
  if (isOffline()) {
    throw new ModelError(
      `${sourceNameOf(hub)}${at} is not whole in ${hubCacheFolder()}, and HF_HUB_OFFLINE forbids to fetch it. ` +
        'Unset it, set HF_HOME or HF_HUB_CACHE to the cache that has it, or give the path of a folder. ' +
        `(${notHere}.)`,
    );
  }
  // Most likely a mistyped path, where its first part is a folder.
  if (existsSync(hub.repository.split('/')[0]))
    report.note(`${notHere}: it is taken for a name on the Hugging Face hub.`);
  const folder = await fetchRepository(hub, wanted, { ...fetching, notHere }, report);
  return hub.file === undefined ? folder : join(folder, hub.file);
}

const fetchLine = object({
  stage: optional(text),
  done: optional(number),
  total: optional(number),
  folder: optional(text),
});

async function fetchRepository(
  { repository, revision, file }: HubName,
  wanted: Wanted,
  { python, requirements, modelsDir, reinstall, signal, notHere }: Fetching & { notHere: string },
  report: Report,
): Promise<string> {
  const packages = await ensureRequirements(python, hubRequirements, modelsDir, {
    again: reinstall,
    signal,
    onInstall: () => report.begin('Installing the Python packages that fetch from the Hugging Face hub'),
    onNote: (message) => report.note(message),
  });
  const args = [repository, '--wanted', file ?? wanted];
  if (revision !== undefined) args.push('--revision', revision);
  let [stage, folder] = ['', ''];
  report.begin(`Asking the Hugging Face hub for ${repository}`);
  const run = await runModule(python, 'medusa_export', ['fetch', ...args], {
    environment: {
      ...exportEnvironment(requirements, packages),
      // As it was found here: the child has another working directory.
      HF_HUB_CACHE: resolve(hubCacheFolder()),
      // The library's own, which nobody would see.
      HF_HUB_DISABLE_PROGRESS_BARS: '1',
    },
    signal,
    onLine: (output) => {
      const line = tryJson(fetchLine, output);
      if (line === undefined) return;
      folder = line.folder ?? folder;
      if (line.stage !== undefined && line.stage !== stage) report.begin((stage = line.stage));
      if (line.done !== undefined && line.total) report.progress(line.done / line.total);
    },
  });
  if (run.code === 0 && folder !== '') return folder;
  const why = run.errorTail.split('\n').findLast((line) => line.trim() !== '') ?? 'no message';
  throw new ModelError(
    `Cannot fetch ${repository}: ${why.replace(/^error:\s*/, '').replace(/\.?\s*$/, '.')} (${notHere}.)${diskFullHint(run.errors)}`,
  );
}
