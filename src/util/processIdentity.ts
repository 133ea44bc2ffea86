import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** A process, told from all others: a number alone may belong to another one by now, or mean another one elsewhere. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** Where the number is valid: this start of this machine, and on Linux this space of process numbers (a container's). */
  readonly scope: string;
  /** When the process began, in the system's own form; null where the system does not tell. */
  readonly born: string | null;
}

let own: ProcessIdentity | undefined;

export function ownIdentity(): ProcessIdentity {
  own ??= { pid: process.pid, host: hostname(), scope: scope(), born: birth(process.pid) };
  return own;
}

/** Whether the process runs; undefined when that cannot be told from here. */
export function isRunning({ pid, host, scope, born }: ProcessIdentity): boolean | undefined {
  const here = ownIdentity();
  if (host !== here.host || scope !== here.scope) return undefined;
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, for another user.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  // Without a birth it may be another process that got the same number.
  return born === null ? undefined : birth(pid) === born;
}

function scope(): string {
  if (process.platform !== 'linux') return process.platform;
  const boot = tryTo(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
  const space = tryTo(() => readlinkSync('/proc/self/ns/pid'));
  return `${boot ?? 'linux'} ${space ?? ''}`;
}

function birth(pid: number): string | null {
  if (process.platform === 'linux') {
    const stat = tryTo(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
    // The 22nd field, in clock ticks since the machine started; the second is a name that may hold spaces.
    return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  }
  if (process.platform === 'win32') return null;
  const started = ['-o', 'lstart=', '-p', String(pid)];
  const env = { LC_ALL: 'C', TZ: 'UTC' };
  return tryTo(() => execFileSync('/bin/ps', started, { env, encoding: 'utf8' }).trim()) ?? null;
}

function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
