/** Commits that names on the Hugging Face hub stand for, by the cache that all its programs share. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { hubFolderName, type HubName } from './hubName.js';

/** The folder of the cache, by the variables that huggingface_hub reads. */
export function hubCacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = environment;
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  const folder = HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub');
  return folder.replace(/^~(?=$|[/\\])/, homedir());
}

/** What a branch or tag stood for when it was fetched into the folder of a repository; undefined where that is not known. */
export function keptCommit(root: string, revision: string): string | undefined {
  try {
    return /^[0-9a-f]+$/.exec(readFileSync(join(root, 'refs', revision), 'utf8').trim())?.[0];
  } catch {
    return undefined;
  }
}

/** The commit that a name's revision stands for in the cache; undefined where it names none, or one that is not there. */
export const commitOf = ({ repository, revision }: HubName): string | undefined =>
  revision === undefined
    ? undefined
    : keptCommit(join(hubCacheFolder(), hubFolderName(repository)), revision);

/** Where a model came from, by its manifest. */
interface Made {
  /** The commit. */
  readonly revision?: string;
  /** The branch, tag or commit that was named for it. */
  readonly revisionAsked?: string;
}

/** Whether a model of this repository is of the revision that a name asks for; of any where it names none. */
export function isOfRevision(hub: HubName, made: Made): boolean {
  if (hub.revision === undefined || made.revisionAsked === hub.revision) return true;
  return made.revision?.startsWith(commitOf(hub) ?? hub.revision) === true;
}
