import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { remedyForMissing } from '../../../src/cli/doctorFindings.js';
import { RuntimeFailure } from '../../../src/util/errors.js';
import { cudaRefused } from '../../../src/runtime/cuda/device.js';
import { isAtLeast, OrtApi } from '../../../src/runtime/cuda/ortApi.js';
import { loadCudaLibrary, locateCudaLibrary, shippedLibrary } from '../../../src/runtime/cuda/ortLibrary.js';
import {
  cudaProviderFacts,
  libraryFacts,
  nodeRuntimeFacts,
  parseGpus,
  parseLdd,
} from '../../../src/runtime/facts.js';
import { openModel } from '../../../src/runtime/index.js';
import { float16Options, sharedOptions, splitOptions } from '../tiny.js';

async function message(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    expect(error).to.be.instanceOf(RuntimeFailure);
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}

describe('runtime: libraries', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-library-'));
  });
  after(() => rm(folder, { recursive: true }));

  it('compares versions by their numbers', () => {
    expect(isAtLeast('1.30.0', [1, 29])).to.equal(true);
    expect(isAtLeast('1.29.1', [1, 29])).to.equal(true);
    expect(isAtLeast('1.9.0', [1, 29])).to.equal(false);
    expect(isAtLeast('2.0', [1, 29])).to.equal(true);
    expect(isAtLeast('unknown', [1, 29])).to.equal(false);
  });

  it('asks for a library when none is given', () => {
    expect(() => locateCudaLibrary(undefined, {})).to.throw(
      RuntimeFailure,
      /--ort-library.*MEDUSA_PLUS_ORT_LIBRARY/,
    );
  });

  it('names the option or the variable of a path that leads nowhere', () => {
    expect(() => locateCudaLibrary('/nowhere/lib.so', {})).to.throw(
      RuntimeFailure,
      '/nowhere/lib.so (--ort-library)',
    );
    expect(() => locateCudaLibrary(undefined, { MEDUSA_PLUS_ORT_LIBRARY: '/nowhere/x' })).to.throw(
      RuntimeFailure,
      '/nowhere/x (MEDUSA_PLUS_ORT_LIBRARY)',
    );
  });

  it('takes a folder for the library in it', async () => {
    expect(() => locateCudaLibrary(folder, {})).to.throw(RuntimeFailure, folder);
    const link = join(folder, 'libonnxruntime.so');
    await symlink(shippedLibrary(), link);
    expect(locateCudaLibrary(folder, {})).to.equal(link);
  });

  it('says when a file is no ONNX Runtime library', async () => {
    const path = join(folder, 'text.so');
    await writeFile(path, 'no library');
    expect(await message(OrtApi.load(path))).to.include(path);
  });

  it('says when the library comes without CUDA', async () => {
    const said = await message(loadCudaLibrary(shippedLibrary()));
    expect(said).to.include('without a CUDA provider').and.include('onnxruntime-gpu');
  });

  it('never falls back from cuda', async () => {
    const options = { ...float16Options, provider: 'cuda', ortLibrary: shippedLibrary() } as const;
    expect(await message(openModel(options))).to.include('without a CUDA provider');
    expect(await message(openModel({ ...options, ortLibrary: '/nowhere' }))).to.include('/nowhere');
  });

  it('runs nothing but float16 on cuda, whose attention would go to the CPU otherwise', async () => {
    const options = { ...sharedOptions, provider: 'cuda', ortLibrary: shippedLibrary() } as const;
    const said = await message(openModel(options));
    expect(said).to.match(/is fp32; .*takes float16 only.*--precision fp16/);
  });

  it('leaves the CPU its own library when another one was loaded first', async function () {
    if (process.platform !== 'linux') this.skip();
    // Another file of the same name, as a GPU build is: the loader gives the first one to all who ask by name.
    const copy = join(folder, 'libonnxruntime.so.1');
    await copyFile(shippedLibrary(), copy);
    const url = new URL('../../../src/runtime/cuda/ortApi.ts', import.meta.url).href;
    const script = `
      const { OrtApi } = await import(${JSON.stringify(url)});
      const api = await OrtApi.load(${JSON.stringify(copy)});
      await import('onnxruntime-node');
      const maps = (await import('node:fs')).readFileSync('/proc/self/maps', 'utf8');
      console.log(JSON.stringify([...new Set(maps.match(/\\/\\S*libonnxruntime\\.so\\S*/g))]), api.version);`;
    const node = ['--import', 'tsx/esm', '--input-type=module', '--eval', script];
    const { stdout } = await promisify(execFile)(process.execPath, node);
    const loaded = JSON.parse(stdout.slice(0, stdout.indexOf(']') + 1)) as string[];
    expect(loaded).to.include(copy);
    expect(loaded.filter((path) => path !== copy)).to.have.length(1);
  });

  it('takes the stacks that another user of koffi fixed, when they are large enough', async () => {
    const url = new URL('../../../src/runtime/cuda/ortApi.ts', import.meta.url).href;
    const load = async (bytes: number): Promise<string> => {
      const script = `
        const koffi = (await import('koffi')).default;
        koffi.config({ sync_stack_size: ${bytes}, async_stack_size: ${bytes} });
        koffi.load(null);
        const { OrtApi } = await import(${JSON.stringify(url)});
        await OrtApi.load(${JSON.stringify(shippedLibrary())}).then((api) => console.log(api.version), (error) => console.log(error.message));`;
      const node = ['--import', 'tsx/esm', '--input-type=module', '--eval', script];
      return (await promisify(execFile)(process.execPath, node)).stdout;
    };
    expect(await load(4 << 20)).to.match(/^1\.\d+/);
    expect(await load(256 << 10))
      .to.include('262144')
      .and.include('koffi.config');
  });

  it('says that koffi is not installed', async () => {
    const hooks = `export async function resolve(name, context, next) {
      if (name === 'koffi') throw new Error("Cannot find package 'koffi'");
      return next(name, context);
    }`;
    const script = `
      const { register } = await import('node:module');
      register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));
      const { OrtApi } = await import(${JSON.stringify(new URL('../../../src/runtime/cuda/ortApi.ts', import.meta.url).href)});
      await OrtApi.load('any').catch((error) => console.log(error.name, error.message));`;
    const node = ['--import', 'tsx/esm', '--input-type=module', '--eval', script];
    const { stdout } = await promisify(execFile)(process.execPath, node);
    expect(stdout).to.match(/^RuntimeFailure .*koffi.*npm install koffi/);
  });

  it('keeps a library loaded while its functions are in use, whatever is collected', async () => {
    const url = new URL('../../../src/runtime/cuda/', import.meta.url).href;
    const script = `
      const { OrtApi } = await import(${JSON.stringify(`${url}ortApi.ts`)});
      const { shippedLibrary } = await import(${JSON.stringify(`${url}ortLibrary.ts`)});
      const api = await OrtApi.load(shippedLibrary());
      for (let i = 0; i < 3; i++) { gc(); await new Promise(setImmediate); }
      console.log(api.availableProviders().join());`;
    const node = ['--expose-gc', '--import', 'tsx/esm', '--input-type=module', '--eval', script];
    const { stdout } = await promisify(execFile)(process.execPath, node);
    expect(stdout).to.include('CPUExecutionProvider');
  });

  it('names the library that the CUDA provider lacks', () => {
    const loader =
      'Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file: No such file or directory';
    expect(cudaRefused('/x/libonnxruntime.so.1', loader)).to.include('libcudnn.so.9 was not found');
    expect(cudaRefused('/x/libonnxruntime.so.1', 'CUDA failure 100')).to.include('medusa-plus doctor');
  });

  it('reports what it finds', async () => {
    const { version, library } = nodeRuntimeFacts();
    expect(version).to.match(/^1\.\d+/);
    const facts = await libraryFacts(library!);
    expect(facts.version).to.equal(version);
    expect(facts.providers).to.include('CPUExecutionProvider');
    expect((await libraryFacts('/nowhere')).error).to.include('/nowhere');
    expect(await cudaProviderFacts(library!)).to.equal(undefined);
  });

  it('says where missing libraries come from', () => {
    expect(remedyForMissing(['libcuda.so.1'])).to.equal('libcuda.so.1 comes with the NVIDIA driver');
    expect(remedyForMissing(['libcublas.so.13'])).to.match(/^install CUDA 13.*LD_LIBRARY_PATH$/);
    expect(remedyForMissing(['libcublas.so.13', 'libcuda.so.1'])).to.match(/driver; install CUDA/);
  });

  it('reads ldd and nvidia-smi', () => {
    const ldd = [
      '\tlinux-vdso.so.1 (0x00007ffd)',
      '\tlibcublasLt.so.13 => not found',
      '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0000)',
      '\tlibcudnn.so.9 => not found',
      '\tlibcudnn.so.9 => not found',
    ].join('\n');
    expect(parseLdd(ldd)).to.deep.equal(['libcublasLt.so.13', 'libcudnn.so.9']);
    expect(parseGpus('NVIDIA H200, 143771, 580.159.03\n\n')).to.deep.equal([
      { name: 'NVIDIA H200', memoryMiB: 143771, driver: '580.159.03' },
    ]);
  });

  it('opens the CPU without touching the GPU library', async () => {
    const model = await openModel({ ...splitOptions, ortLibrary: '/nowhere' });
    await model.dispose();
  });
});
