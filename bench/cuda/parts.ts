import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';

export const SUMS = 'SHA256SUMS';

/** Bytes of "45M", "2G", "512K" or "1000". */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMG]?)$/.exec(text);
  const bytes = match ? Number(match[1]) * 1024 ** ' KMG'.indexOf(match[2] || ' ') : 0;
  if (bytes < 1) throw new Error(`--part-size ${text}: expected a number of bytes, such as 45M or 1G.`);
  return bytes;
}

/**
 * Cuts a file into `name.000`, `name.001`, ... and writes SHA256SUMS over them, which `sha256sum -c` checks. Parts
 * left there by an earlier run are removed first.
 *
 * @returns names of the parts
 */
export async function splitFile(path: string, folder: string, name: string, size: number): Promise<string[]> {
  mkdirSync(folder, { recursive: true });
  for (const old of readdirSync(folder)) {
    if (old === SUMS || (old.startsWith(`${name}.`) && /\.\d{3}$/.test(old))) rmSync(join(folder, old));
  }
  const sums: string[] = [];
  const names: string[] = [];
  let part: Part | undefined;
  const close = async (): Promise<void> => {
    if (!part) return;
    sums.push(`${await part.end()}  ${part.name}`);
    names.push(part.name);
    part = undefined;
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    for (let rest = chunk; rest.length > 0;) {
      part ??= new Part(folder, `${name}.${String(names.length).padStart(3, '0')}`);
      const piece = rest.subarray(0, size - part.bytes);
      await part.write(piece);
      rest = rest.subarray(piece.length);
      if (part.bytes === size) await close();
    }
  }
  await close();
  writeFileSync(join(folder, SUMS), `${sums.join('\n')}\n`);
  return names;
}

class Part {
  bytes = 0;
  private readonly hash = createHash('sha256');
  private readonly stream;

  constructor(
    folder: string,
    readonly name: string,
  ) {
    this.stream = createWriteStream(join(folder, name));
  }

  async write(piece: Buffer): Promise<void> {
    this.bytes += piece.length;
    this.hash.update(piece);
    if (!this.stream.write(piece)) await once(this.stream, 'drain');
  }

  /** @returns the sha256 of what was written */
  async end(): Promise<string> {
    this.stream.end();
    await once(this.stream, 'close');
    return this.hash.digest('hex');
  }
}
