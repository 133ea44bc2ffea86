import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** Logical processors that this process may use at once: those it may run on, or fewer where a container has a quota. */
export function availableProcessors(): number {
  const all = availableParallelism();
  const quota = readQuota();
  return quota === undefined ? all : Math.max(1, Math.min(all, Math.ceil(quota)));
}

/** Processors' worth of time that the cgroup allows (Linux); undefined where it says nothing. */
function readQuota(): number | undefined {
  const [most, period] = read('/sys/fs/cgroup/cpu.max').split(' ').map(Number);
  if (most > 0 && period > 0) return most / period;
  const [oldMost, oldPeriod] = ['quota', 'period'].map((name) =>
    Number(read(`/sys/fs/cgroup/cpu/cpu.cfs_${name}_us`)),
  );
  return oldMost > 0 && oldPeriod > 0 ? oldMost / oldPeriod : undefined;
}

/** Cores, each of which may run two threads; undefined where the system does not say (other than Linux on x86). */
export function physicalCores(cpuinfo = read('/proc/cpuinfo')): number | undefined {
  const cores = new Set<string>();
  for (const processor of cpuinfo.split('\n\n')) {
    const value = (name: string): string | undefined =>
      new RegExp(`^${name}\\s*:\\s*(\\d+)`, 'm').exec(processor)?.[1];
    const core = value('core id');
    if (core !== undefined) cores.add(`${value('physical id') ?? 0} ${core}`);
  }
  return cores.size > 0 ? cores.size : undefined;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
