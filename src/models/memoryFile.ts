/**
 * Draft memories on disk (`--memory FILE`, docs/formats.md): a line of JSON, and then the arrays that it counts, little-endian.
 * They hold fragments of what was said: only their owner may read them.
 */
import { constants } from 'node:fs';
import { access, readlink, realpath } from 'node:fs/promises';
import { endianness } from 'node:os';
import { dirname, resolve } from 'node:path';
import { DraftMemory } from '../decoding/draft/draftMemory.js';
import { MedusaError, UsageError } from '../util/errors.js';
import { choice, count, name, object, tryJson } from '../util/json.js';
import type { Report } from '../util/progressReport.js';
import { readRegularFile } from '../util/regularFile.js';
import { setAside } from '../util/setAside.js';
import { sha256OfText } from '../util/sha256.js';
import { writeWhole } from '../util/writeFile.js';

const format = 'medusa-plus draft memory 1';

const headerSchema = object({
  format: choice([format]),
  model: name,
  /** sha256 of tokenizer.json: token ids mean nothing without it. */
  tokenizer: name,
  /** Numbers of values: int32, int32, float64. */
  earlier: count(0),
  recycled: count(0),
  weights: count(0),
  /** sha256 of what follows the line. */
  sha256: name,
});

/** The model whose tokens a memory is about. */
export interface MemoryOwner {
  readonly model: string;
  readonly tokenizer: string;
  readonly vocabSize: number;
}

/** A memory that was read, and how to write it again. */
export interface StoredMemory {
  readonly memory: DraftMemory;
  readonly save: (memory: DraftMemory) => Promise<void>;
}

/**
 * Opens a memory file; a new one where there is none. A link stays, and the file that it leads to is read and written.
 *
 * @throws UsageError for a file of another model or of another kind, for what is no regular file, and for a folder that
 *   cannot be written to
 */
export async function openMemoryFile(
  file: string,
  owner: MemoryOwner,
  report: Report,
): Promise<StoredMemory> {
  const bytes = await readIfThere(file);
  const target = await behindLinks(file);
  await checkFolder(file, dirname(resolve(target)));
  const save = (memory: DraftMemory): Promise<void> => writeMemory(target, memory, owner);
  if (bytes === undefined || bytes.length === 0) return { memory: new DraftMemory({ earlier: true }), save };
  if (!bytes.subarray(0, 100).toString('latin1').includes(format)) {
    throw new UsageError(`--memory ${file} is no draft memory of medusa-plus. Give the name of a new file.`);
  }
  const contents = parse(bytes, owner, file);
  if (contents === undefined) {
    const aside = await setAside(target);
    report.note(
      `The draft memory ${file} is damaged: it was set aside as ${aside}, and a new one is begun. ` +
        'It may still hold fragments of prompts and answers: delete it to forget them.',
    );
  }
  return { memory: new DraftMemory({ earlier: true, contents }), save };
}

/** Undefined where there is no such file. */
function readIfThere(file: string): Promise<Buffer | undefined> {
  return readRegularFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new UsageError(`--memory ${file} cannot be used: ${error.message}.`, { cause: error });
  });
}

/**
 * Writes a memory in one step, for its owner only.
 *
 * @throws MedusaError that names the file where it cannot be written; it then holds what it held before
 */
async function writeMemory(file: string, memory: DraftMemory, owner: MemoryOwner): Promise<void> {
  const { earlier, recycled, weights } = memory.contents();
  const payload = Buffer.concat([earlier, recycled, weights].map(littleEndian));
  const header = {
    format,
    model: owner.model,
    tokenizer: owner.tokenizer,
    earlier: earlier.length,
    recycled: recycled.length,
    weights: weights.length,
    sha256: sha256OfText(payload),
  };
  const bytes = Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), payload]);
  await writeWhole(file, bytes, 0o600).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'ENOSPC' ? 'the disk is full' : cause.message;
    throw new MedusaError(
      `The draft memory ${file} cannot be written: ${why}. What it held before is kept; what drafts learnt since is lost. ` +
        'Answers lose nothing.',
      undefined,
      { cause },
    );
  });
}

type Contents = ReturnType<DraftMemory['contents']>;

/** @throws UsageError for a memory of another model */
function parse(
  bytes: Buffer,
  { model, tokenizer, vocabSize }: MemoryOwner,
  file: string,
): Contents | undefined {
  const end = bytes.indexOf('\n');
  const header = tryJson(headerSchema, bytes.subarray(0, Math.max(0, end)).toString());
  if (header === undefined) return undefined;
  if (header.model !== model || header.tokenizer !== tokenizer) {
    throw new UsageError(
      `--memory ${file} belongs to model ${header.model}${header.model === model ? ' with another tokenizer' : ''}, ` +
        `and this is ${model}. Give each model a file of its own.`,
    );
  }
  const payload = bytes.subarray(end + 1);
  if (sha256OfText(payload) !== header.sha256) return undefined;
  const sizes = [4 * header.earlier, 4 * header.recycled, 8 * header.weights];
  if (payload.length !== sizes[0] + sizes[1] + sizes[2]) return undefined;
  const [first, second] = [sizes[0], sizes[0] + sizes[1]];
  const contents = {
    earlier: new Int32Array(own(payload.subarray(0, first), 4)),
    recycled: new Int32Array(own(payload.subarray(first, second), 4)),
    weights: new Float64Array(own(payload.subarray(second), 8)),
  };
  const isToken = (token: number): boolean => token >= 0 && token < vocabSize;
  const isSound =
    contents.earlier.every(isToken) &&
    contents.recycled.every((value) => value >= -1 && value < vocabSize) &&
    contents.weights.every(Number.isFinite);
  return isSound ? contents : undefined;
}

/** A copy of the bytes in the order of this machine. */
function own(bytes: Buffer, width: 4 | 8): ArrayBuffer {
  const copy = Buffer.from(new ArrayBuffer(bytes.length));
  bytes.copy(copy);
  if (endianness() === 'BE') width === 4 ? copy.swap32() : copy.swap64();
  return copy.buffer;
}

function littleEndian(values: Int32Array | Float64Array): Buffer {
  const copy = Buffer.from(values.buffer.slice(values.byteOffset, values.byteOffset + values.byteLength));
  if (endianness() === 'BE') values.BYTES_PER_ELEMENT === 4 ? copy.swap32() : copy.swap64();
  return copy;
}

/** The file that a name leads to, which need not be there. */
async function behindLinks(name: string): Promise<string> {
  const target = await readlink(name).catch(() => undefined);
  // Not a link. Links in a circle cannot be read, which was seen before.
  if (target === undefined) return name;
  return behindLinks(resolve(await realpath(dirname(name)), target));
}

async function checkFolder(file: string, folder: string): Promise<void> {
  await access(folder, constants.W_OK).catch((cause: Error) => {
    throw new UsageError(
      `--memory ${file}: the folder ${folder} is not there or cannot be written to. Make it, or give another file.`,
      { cause },
    );
  });
}
