import { RuntimeFailure } from './errors.js';

/** The program's own environment variables. Where an option says the same, the option wins. */
export const environmentVariables = {
  MEDUSA_PLUS_MODELS: 'Folder of the prepared models (--models-dir)',
  MEDUSA_PLUS_ORT_LIBRARY: 'GPU build of ONNX Runtime for CUDA: the library, or its folder (--ort-library)',
  MEDUSA_PLUS_CUDA_GRAPHS: '1: on CUDA, capture steps as CUDA graphs (docs/cuda.md)',
  MEDUSA_PLUS_PYTHON: 'Python that prepares models; without it python3 or python on PATH',
  MEDUSA_PLUS_MT_BENCH_URL: 'Mirror of the MT-Bench files (docs/bench.md)',
  MEDUSA_PLUS_DEBUG: '1: print errors with their stack',
  MEDUSA_PLUS_TEST_GGUF: 'GGUF file of the default model for the Python tests (npm run test:python sets it)',
} as const;

export type EnvironmentVariable = keyof typeof environmentVariables;

/** Former names that are still read. */
const formerNames: Partial<Record<EnvironmentVariable, string>> = {
  MEDUSA_PLUS_ORT_LIBRARY: 'MEDUSA_ORT_LIBRARY',
};

/** A variable's value, by its own name or else its former one; empty and undefined both mean that none is given. */
export function readVariable(name: EnvironmentVariable, environment = process.env): string | undefined {
  const former = formerNames[name];
  return environment[name] ?? (former && environment[former]);
}

/** The name by which a variable is set, if it is: a message should name what the user wrote. */
export function nameInUse(name: EnvironmentVariable, environment = process.env): string {
  const former = formerNames[name];
  return environment[name] === undefined && former && environment[former] ? former : name;
}

/**
 * Whether a variable is 1; unset, empty and 0 are no.
 *
 * @throws RuntimeFailure for any other value
 */
export function readSwitch(name: EnvironmentVariable, environment = process.env): boolean {
  const value = readVariable(name, environment) || '0';
  if (value !== '0' && value !== '1') {
    throw new RuntimeFailure(`${name}=${value}: expected 1 (on) or 0 (off).`);
  }
  return value === '1';
}

/** A line for each variable that is read by its former name. */
export function formerNameNotes(environment = process.env): string[] {
  return Object.entries(formerNames)
    .filter(([name, former]) => environment[name] === undefined && environment[former])
    .map(([name, former]) => `The environment variable ${former} is now called ${name}; please rename it.`);
}
