/**
 * What the host does in a step on CUDA, seen from the null device (bench/cuda/null), without a card:
 *
 *   LD_LIBRARY_PATH=<null device> MEDUSA_ORT_LIBRARY=<GPU build of ONNX Runtime> \
 *     hostSide --model <folder> --out <results> [--past 1024] [--nodes 64] [--rounds 100] [--precision fp16]
 *
 * Counts, for a whole step of each way to send it (bound, packed, graphs, taking turns): kernels and products launched,
 * copies and their bytes beside those derived from the bindings, waits, allocations. The milliseconds are the host's:
 * this program's and ONNX Runtime's, with launches that cost nothing and a device that takes no time. Writes
 * host-<model>.json and .md.
 */
import './oneLine.js';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadKoffi } from '../../src/runtime/cuda/koffi.js';
import type { StepTraffic } from '../../src/runtime/cuda/bindingPlan.js';
import { planFor } from '../../src/runtime/cuda/ioBoundModel.js';
import { randomTokens } from '../../src/runtime/measure.js';
import { median } from '../../src/util/numbers.js';
import type { DeviceSteps } from '../../src/runtime/index.js';
import type { WholeStep } from './costReport.js';
import { modelOptions, openFor } from './openModels.js';
import { medianStep, STAGES, trafficOf, wholeSteps } from './wholeStep.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    past: { type: 'string', default: '1024' },
    nodes: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '100' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const WAYS = ['bound', 'packed', 'graphs'] as const;
/** Enough for every thread that runs steps to have made its handles. */
const WARM_UP = 20;

interface Count {
  readonly group: 'call' | 'copy' | 'kernel' | 'product' | 'refused' | 'fault';
  readonly name: string;
  readonly calls: number;
  readonly bytes: number;
}

interface Found {
  readonly steps: DeviceSteps;
  /** Per step. */
  readonly counts: readonly Count[];
  /** Derived from the bindings. */
  readonly derived: StepTraffic;
  /** Median milliseconds of the host. */
  readonly milliseconds: WholeStep & { readonly outsideRuns: number };
}

const device = await nullDevice();
const { manifest, options } = await modelOptions(args.model!, 'cuda', args.precision);
const past = Number(args.past);
const nodes = Number(args.nodes);
const rounds = Number(args.rounds);
mkdirSync(args.out!, { recursive: true });
const runs = [];
for (const steps of WAYS) runs.push(await start(steps));
for (let round = -WARM_UP; round < rounds; round++) {
  for (const run of runs) await run.step(round >= 0);
}
const found = runs.map((run) => run.finish());
await Promise.all(runs.map((run) => run.model.dispose()));
const text = render(found);
const name = `host-${manifest.model.id}`;
writeFileSync(join(args.out!, `${name}.md`), text);
const all = { model: manifest.model.id, past, nodes, rounds, found };
writeFileSync(join(args.out!, `${name}.json`), `${JSON.stringify(all, null, 1)}\n`);
console.log(text);

async function nullDevice(): Promise<{ reset(): void; report(): Count[] }> {
  const koffi = await loadKoffi();
  try {
    const library = koffi.load('libcudart.so.13');
    const reset = library.func('null_device_reset', 'void', []) as () => void;
    const report = library.func('null_device_report', 'str', []) as () => string;
    return { reset, report: () => JSON.parse(report()) as Count[] };
  } catch (cause) {
    throw new Error(
      `The loader finds no null device (${(cause as Error).message}): build it with bench/cuda/null/build.sh FOLDER and set LD_LIBRARY_PATH=FOLDER.`,
      { cause },
    );
  }
}

async function start(steps: DeviceSteps) {
  const model = await openFor('cuda', { ...options, deviceSteps: steps });
  const step = wholeSteps(model, nodes);
  const counts = new Map<string, Count>();
  const times: WholeStep[] = [];
  const timed = async (isTimed: boolean): Promise<void> => {
    // The bias keeps its width: each step stands behind the same past.
    model.truncate(0);
    await model.prefill(randomTokens(past, model.vocabSize), { logits: false });
    device.reset();
    const time = await step();
    if (!isTimed) return;
    times.push(time);
    for (const { group, name, calls, bytes } of device.report()) {
      const sum = counts.get(group + name);
      const more = { group, name, calls: (sum?.calls ?? 0) + calls, bytes: (sum?.bytes ?? 0) + bytes };
      counts.set(group + name, more);
    }
  };
  const finish = (): Found => ({
    steps,
    counts: [...counts.values()].map((each) => ({
      ...each,
      calls: each.calls / rounds,
      bytes: each.bytes / rounds,
    })),
    derived: trafficOf(options, planFor(options), { nodes, past, moved: 1 }, steps),
    milliseconds: withOutside(times),
  });
  return { model, step: timed, finish };
}

/** The share outside of ONNX Runtime's runs is taken of each step: medians do not subtract. */
function withOutside(times: readonly WholeStep[]): Found['milliseconds'] {
  return { ...medianStep(times), outsideRuns: median(times.map(({ total, runs }) => total - runs!)) };
}

function render(all: readonly Found[]): string {
  const sum = (
    { counts }: Found,
    wanted: (count: Count) => boolean,
    of: 'calls' | 'bytes' = 'calls',
  ): number => counts.filter(wanted).reduce((total, count) => total + count[of], 0);
  const named =
    (...names: string[]) =>
    ({ name }: Count): boolean =>
      names.includes(name);
  const rows: [string, (each: Found) => string][] = [
    ['kernels launched', (each) => whole(sum(each, ({ group }) => group === 'kernel'))],
    ['products (cuBLAS)', (each) => whole(sum(each, ({ group }) => group === 'product'))],
    ['CUDA graphs launched', (each) => whole(sum(each, named('cudaGraphLaunch')))],
    ['copies to the device', (each) => whole(sum(each, named('host to device')))],
    ['... bytes', (each) => whole(sum(each, named('host to device'), 'bytes'))],
    ['... bytes derived from the bindings', (each) => whole(each.derived.toDevice)],
    ['copies to the host', (each) => whole(sum(each, named('device to host')))],
    ['... bytes', (each) => whole(sum(each, named('device to host'), 'bytes'))],
    ['... bytes derived from the bindings', (each) => whole(each.derived.fromDevice)],
    ['copies within the device', (each) => whole(sum(each, named('device to device')))],
    ['... bytes', (each) => whole(sum(each, named('device to device'), 'bytes'))],
    [
      'waits for the device',
      (each) => whole(sum(each, named('cudaStreamSynchronize', 'cudaDeviceSynchronize'))),
    ],
    ['allocations', (each) => whole(sum(each, named('cudaMalloc', 'cudaHostAlloc', 'cudaMallocHost')))],
    ['faults', (each) => whole(sum(each, ({ group }) => group === 'fault'))],
    ...([...STAGES, 'total', 'outsideRuns'] as const).map((stage): [string, (each: Found) => string] => [
      stage === 'outsideRuns' ? 'ms outside of ONNX Runtime’s runs' : `ms ${stage}`,
      ({ milliseconds }) => milliseconds[stage].toFixed(3),
    ]),
  ];
  const cells = [
    ['', ...all.map(({ steps }) => steps)],
    ['---', ...all.map(() => '---')],
    ...rows.map(([title, value]) => [title, ...all.map(value)]),
  ];
  return (
    `# The host's side of a step: ${manifest.model.id}, ${args.precision}, ${nodes} nodes behind ${past} tokens\n\n` +
    `On the null device: nothing is computed and launches are free. Per step, ${rounds} of each; milliseconds are medians.\n\n` +
    `${cells.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n`
  );
}

function whole(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en') : value.toFixed(2);
}
