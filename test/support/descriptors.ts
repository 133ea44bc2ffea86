import { fstatSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** How many descriptors of this process, below 1000, are open on the file of that name. */
export function descriptorsOf(path: string): number {
  const file = statSync(path);
  let found = 0;
  for (let descriptor = 3; descriptor < 1000; descriptor++) {
    try {
      const { dev, ino } = fstatSync(descriptor);
      if (dev === file.dev && ino === file.ino) found++;
    } catch {
      // Not open.
    }
  }
  return found;
}

/** Has garbage collected until `isDone`. @throws when it does not come to be in 100 collections */
export async function collectGarbage(isDone: () => boolean): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 100 && !isDone(); i++) {
    collect();
    await sleep(10);
  }
  if (!isDone()) throw new Error('Garbage was collected, and it was not enough.');
}
