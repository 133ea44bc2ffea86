import { basename, resolve, sep } from 'node:path';

/** A model on the Hugging Face hub: OWNER/NAME, @REVISION, :FILE.gguf. */
export interface HubName {
  /** OWNER/NAME */
  readonly repository: string;
  /** Branch, tag or commit; main otherwise. */
  readonly revision?: string;
  /** A GGUF file in it; the whole checkpoint otherwise. */
  readonly file?: string;
}

/** Nothing in it leads elsewhere when it becomes a path. */
const pattern =
  /^(?<repository>[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@(?<revision>[\w.-]+(?:\/[\w.-]+)*))?(?::(?<file>[^/:\\][^:\\]*\.gguf))?$/;

/** A mistyped path of a file is no name on the hub. */
const fileEnding = /\.(gguf|onnx|safetensors|bin|pt)$/;

/** Of a GGUF model in parts, any of which stands for all of them, the first: A-00002-of-00003.gguf -> A-00001-of-00003.gguf. */
export const firstPart = (file: string): string =>
  file.replace(/-\d{5}-of-(\d{5})\.gguf$/, '-00001-of-$1.gguf');

/** Whether two names of the hub, as manifests hold them, are one: the hub takes small letters for large ones. */
export const sameSourceName = (a: string, b: string): boolean =>
  firstPart(a).toLowerCase() === firstPart(b).toLowerCase();

/** The parts of a name that looks as on the hub, or undefined. Whether there is such a model is another question. */
export function parseHubName(text: string): HubName | undefined {
  const parts = pattern.exec(text)?.groups as HubName | undefined;
  if (parts === undefined || text.includes('..')) return undefined;
  const { repository, revision, file } = parts;
  if (fileEnding.test(repository)) return undefined;
  return { repository, revision, file: file && firstPart(file) };
}

/** As a model's manifest names its source: the revision stands apart. */
export const sourceNameOf = ({ repository, file }: HubName): string =>
  file === undefined ? repository : `${repository}:${file}`;

/** The name of the model without its owner, or of the file. */
export const shortNameOf = ({ repository, file }: HubName): string => basename(file ?? repository);

/** The name of a model made from a checkpoint of this file or folder name. */
export const modelNameFrom = (name: string): string =>
  name.toLowerCase().replace(/(-\d{5}-of-\d{5})?\.gguf$/, '');

const folderPrefix = 'models--';

/** The folder of a repository in the hub's cache. */
export const hubFolderName = (repository: string): string =>
  `${folderPrefix}${repository.replace('/', '--')}`;

/**
 * What a path in the hub's cache belongs to: `models--OWNER--NAME`, a snapshot in it (`snapshots/COMMIT`), or a file of
 * a snapshot. Undefined for other paths.
 */
export function hubNameOfPath(path: string): HubName | undefined {
  const parts = resolve(path).split(sep);
  const at = parts.findLastIndex((part) => part.startsWith(folderPrefix));
  if (at < 0) return undefined;
  const repository = parts[at].slice(folderPrefix.length).replace('--', '/');
  const [snapshots, revision, ...file] = parts.slice(at + 1);
  if (snapshots !== undefined && (snapshots !== 'snapshots' || revision === undefined)) return undefined;
  return { repository, revision, file: file.length === 0 ? undefined : firstPart(file.join('/')) };
}

/** The name of a checkpoint that lies here, for a manifest and for the user: on the hub, or else of its file or folder. */
export function localSourceName(path: string): string {
  const hub = hubNameOfPath(path);
  return hub === undefined ? firstPart(basename(resolve(path))) : sourceNameOf(hub);
}

/** Whether a path is the folder of a repository in the cache, which holds its snapshots. */
export const isHubFolder = (path: string): boolean => basename(resolve(path)).startsWith(folderPrefix);
