import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DraftMemory } from '../../src/decoding/draft/draftMemory.js';
import { decode } from '../../src/decoding/decode.js';
import { createAcceptance } from '../../src/decoding/acceptance.js';
import { openEngineParts } from '../../src/engine/open.js';
import { PolicyMaker } from '../../src/engine/policies.js';
import { resolveDecodingOptions } from '../../src/engine/options/resolve.js';
import { silentReport } from '../../src/util/progressReport.js';
import { runCli, runMain } from '../support/cli.js';
import { copyTiny, onTiny, temporaryFolder, tinyFolder } from '../support/tinyModel.js';

describe('Ctrl-C', function () {
  this.timeout(60_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  /** Mocha's own, which would end the tests. */
  let others: NodeJS.SignalsListener[];
  beforeEach(async () => {
    folder = await temporaryFolder();
    others = process.listeners('SIGINT');
    process.removeAllListeners('SIGINT');
  });
  afterEach(async () => {
    for (const listener of others) process.on('SIGINT', listener);
    await folder.remove();
  });

  /** A copy of the tiny model for which this machine was not measured yet. */
  const coldModel = async (): Promise<string> => {
    const model = await copyTiny(folder.path);
    await rm(join(model, 'tuning.json'), { force: true });
    return model;
  };

  /** A file or folder that bears the name of what the model was made from. */
  const sourceOf = async (model: string): Promise<string> => {
    const text = await readFile(join(model, 'manifest.json'), 'utf8');
    const path = join(folder.path, 'sources', (JSON.parse(text) as { source: { name: string } }).source.name);
    await mkdir(path, { recursive: true });
    return path;
  };

  it('has its exit code where nothing needs to end cleanly, as while a command loads', async () => {
    // A Python that never answers keeps `doctor` where no signal is being caught.
    const python = join(folder.path, 'python');
    const started = join(folder.path, 'started');
    await writeFile(python, `#!/bin/sh\necho >'${started}'\nread nothing\n`, { mode: 0o755 });
    const run = await runCli(['doctor', '--models-dir', folder.path], {
      env: { MEDUSA_PLUS_PYTHON: python },
      onStart: async (child) => {
        while (!existsSync(started)) await sleep(20);
        child.kill('SIGINT');
      },
    });
    expect(run.code).to.equal(130);
    expect(run.stderr).to.equal('Interrupted.\n');
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends the wait for a prompt from a pipe (${signal})`, async function () {
      if (process.platform === 'win32') return;
      const pipe = join(folder.path, 'pipe');
      execFileSync('mkfifo', [pipe]);
      const run = await runCli(['generate', '--model', tinyFolder, '--file', pipe], {
        onStart: async (child) => {
          // Can be opened for writing once somebody reads, and then nothing is written.
          const writer = await open(pipe, 'w');
          child.kill(signal);
          child.once('close', () => void writer.close());
        },
      });
      expect(run.code).to.equal(130);
      expect(run.stderr).to.equal('Interrupted.\n');
    });
  }

  it('reads a prompt that comes through a pipe after a while', async function () {
    if (process.platform === 'win32') return;
    const pipe = join(folder.path, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const options = [...onTiny, '--nodes', '8', '--max-new-tokens', '4'];
    const reading = runCli(['generate', '--file', pipe, ...options]);
    await sleep(300);
    await writeFile(pipe, 'Hi\n');
    const run = await reading;
    expect(run.code, run.stderr).to.equal(0);
    expect(run.stdout).to.equal((await runMain(['generate', 'Hi', ...options])).stdout);
  });

  it('ends the measuring of a machine, which is not kept half-made', async () => {
    const model = await coldModel();
    const controller = new AbortController();
    const report = { ...silentReport, begin: () => controller.abort() };
    const opening = openEngineParts({ model, report, signal: controller.signal });
    const error = await opening.then(
      () => expect.fail('did not end'),
      (reason: Error) => reason,
    );
    expect(error.name).to.equal('AbortError');
    expect(existsSync(join(model, 'tuning.json'))).to.equal(false);
  });

  for (const command of ['generate', 'prepare', 'bench', 'compare']) {
    it(`ends ${command} while it measures`, async () => {
      const model = await coldModel();
      const source = await sourceOf(model);
      const own = {
        generate: ['Hi', '--model', model],
        prepare: ['--from', source, '--id', 'tiny', '--models-dir', folder.path],
        bench: ['--model', model, '--limit', '1', '--output', join(folder.path, 'run')],
        compare: ['--model', model, '--limit', '1', '--output', join(folder.path, 'run')],
      }[command]!;
      const run = await runMain([command, ...own], {
        onStderr: (text) => {
          if (text.includes('Measuring')) process.emit('SIGINT');
        },
      });
      expect(run.code, run.stderr).to.equal(130);
      expect(run.stderr).to.contain('Interrupted');
      expect(run.stdout).to.equal('');
      expect(existsSync(join(model, 'tuning.json'))).to.equal(false);
    });
  }

  it('is heard between two runs of the model, not one run later', async function () {
    if (process.platform === 'win32') return;
    const { model } = await openEngineParts({ model: tinyFolder, threads: 1 });
    let isHeard = false;
    process.once('SIGUSR2', () => (isHeard = true));
    try {
      // Comes while the run blocks the event loop.
      setImmediate(() => process.kill(process.pid, 'SIGUSR2'));
      await model.prefill([1, 2, 3], { logits: false });
      expect(isHeard).to.equal(true);
    } finally {
      await model.dispose();
    }
  });

  it('ends a long prompt between two runs of the model', async () => {
    const parts = await openEngineParts({ model: tinyFolder, threads: 1 });
    try {
      const { model } = parts;
      const controller = new AbortController();
      const whole = model.prefill.bind(model);
      model.prefill = (ids, options) => {
        controller.abort();
        return whole(ids, options);
      };
      const prompt = Array.from({ length: 400 }, (_, i) => i);
      const steps = decode(model, prompt, {
        policy: await new PolicyMaker(parts).make(resolveDecodingOptions({}, parts.facts), new DraftMemory()),
        acceptance: createAcceptance({ name: 'greedy', temperature: 0 }),
        maxNewTokens: 4,
        clock: () => 0,
        signal: controller.signal,
      });
      const { done, value } = await steps.next();
      expect(done).to.equal(true);
      expect(value).to.include({ finishReason: 'aborted', newTokens: 0 });
      expect(model.cachedLength).to.be.within(1, 128);
    } finally {
      await parts.model.dispose();
    }
  });
});
