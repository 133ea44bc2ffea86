/**
 * JSON of files and servers, checked against schemas (valibot). The message of each schema says what it expects;
 * `checkJson` makes an error of it that names the file, the field, what was found, and what the user can do.
 */
import * as v from 'valibot';
import { ModelError } from './errors.js';

/** Takes any value, and gives a T or says what is wrong. */
export type Schema<T> = v.GenericSchema<unknown, T>;

/** @throws ModelError when the text is not JSON, or not what the schema expects */
export function readJson<T>(schema: Schema<T>, text: string, file: string, fix: string): T {
  return checkJson(schema, parseJson(text, file, fix), file, fix);
}

/** Text that need not be JSON, nor fit the schema: undefined then. */
export function tryJson<T>(schema: Schema<T>, text: string): T | undefined {
  try {
    return v.parse(schema, JSON.parse(text), { abortEarly: true });
  } catch {
    return undefined;
  }
}

/** @throws ModelError when the text is not JSON */
export function parseJson(text: string, file: string, fix: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ModelError(`${file} is not JSON (${(cause as Error).message}). ${fix}`, undefined, { cause });
  }
}

/** @throws ModelError naming the first field that does not fit */
export function checkJson<T>(schema: Schema<T>, value: unknown, file: string, fix: string): T {
  const { issues, output } = v.safeParse(schema, value, { abortEarly: true });
  if (issues === undefined) return output;
  const [{ path = [], message, input }] = issues;
  const found = input === undefined ? 'nothing' : beginningOf(input);
  throw new ModelError(
    `${file}: ${pathText(path.map(({ key }) => key)) || 'its content'} must be ${message}, found ${found}. ${fix}`,
  );
}

/** backbones[0].file */
const pathText = (keys: readonly unknown[]): string =>
  keys
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`))
    .join('');

function beginningOf(value: unknown): string {
  try {
    // JSON.stringify makes null of a number that is too large.
    return typeof value === 'number' ? String(value) : JSON.stringify(value).slice(0, 60);
  } catch {
    return 'lists or objects nested too deeply';
  }
}

export const text = v.string('a text');
/** A text that is not empty. */
export const name = v.pipe(text, v.nonEmpty('a text that is not empty'));
/** A name of a file in the same folder: nothing that leads out of it. */
export const fileName = v.pipe(
  name,
  v.check(
    (file) => /^[^/\\]+$/.test(file) && file !== '.' && file !== '..',
    'the name of a file in the same folder',
  ),
);
export const flag = v.boolean('true or false');

/** A value that may be left out or null: undefined then. */
export const optional = <T>(schema: Schema<T>): Schema<T | undefined> => v.nullish(schema, () => undefined);
export const nullable = <T>(schema: Schema<T>): Schema<T | null> => v.nullable(schema);
export const choice = <const T extends readonly string[]>(values: T): Schema<T[number]> =>
  v.picklist(values, `one of ${values.join(', ')}`);
export const list = <T>(item: Schema<T>): Schema<T[]> => v.array(item, 'a list');

/**
 * An object with these fields. Others that it has stay as they are, though its type does not know them.
 */
export function object<const E extends v.ObjectEntries>(
  entries: E,
): Schema<v.InferOutput<v.ObjectSchema<E, undefined>>> {
  // With all names there, what is missing is found wrong by its own schema, which knows what to say.
  const names = Object.fromEntries(Object.keys(entries).map((key) => [key, undefined]));
  const withNames = v.transform((value) => ({ ...names, ...(value as object) }));
  return v.pipe(v.unknown(), v.check(isObject, 'an object'), withNames, v.looseObject(entries));
}

/** An object whose names are not known before. */
export const record = <T>(value: Schema<T>): Schema<Record<string, T>> =>
  v.pipe(v.unknown(), v.check(isObject, 'an object'), v.record(v.string(), value));

const isObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

interface Range {
  readonly minimum?: number;
  readonly maximum?: number;
  /** Whole numbers only, unless this is false. */
  readonly whole?: boolean;
}

export const number = numberIn({ whole: false });

/** A whole number. */
export const count = (minimum = 1, maximum = Infinity): Schema<number> => numberIn({ minimum, maximum });

function numberIn(range: Range): Schema<number> {
  return v.custom<number>((value) => isWithin(value, range), rangeText(range));
}

/** A list of numbers, looked at in one pass: there may be very many. */
export function numbers(range: Range = {}): Schema<number[]> {
  return v.pipe(
    v.custom<number[]>(Array.isArray, 'a list of numbers'),
    across((list: number[]) => {
      const wrong = list.findIndex((each) => !isWithin(each, range));
      return wrong < 0 ? undefined : { at: [wrong], expected: rangeText(range) };
    }),
  );
}

/** What is wrong with a value whose fields are right each for itself. */
interface Misfit {
  /** Keys and indices that lead to the wrong field. */
  readonly at: readonly (string | number)[];
  readonly expected: string;
}

/** A check of several fields at once, to be put behind their schema. */
export const across = <T extends object>(findMisfit: (value: T) => Misfit | undefined): v.RawCheckAction<T> =>
  v.rawCheck(({ dataset, addIssue }) => {
    const misfit = dataset.typed ? findMisfit(dataset.value) : undefined;
    if (misfit === undefined) return;
    let input: unknown = dataset.value;
    const path = misfit.at.map((key) => {
      const holder = input;
      input = (holder as Record<string | number, unknown>)[key];
      return { type: 'unknown', origin: 'value', input: holder, key, value: input } as const;
    });
    addIssue({ message: misfit.expected, input, path: path as unknown as [v.UnknownPathItem] });
  });

function isWithin(
  value: unknown,
  { minimum = -Infinity, maximum = Infinity, whole = true }: Range,
): value is number {
  return (
    (whole ? Number.isInteger(value) : Number.isFinite(value)) &&
    (value as number) >= minimum &&
    (value as number) <= maximum
  );
}

function rangeText({ minimum = -Infinity, maximum = Infinity, whole = true }: Range): string {
  const kind = whole ? 'a whole number' : 'a number';
  if (maximum < Infinity) return `${kind} from ${minimum} to ${maximum}`;
  return minimum > -Infinity ? `${kind} of at least ${minimum}` : kind;
}
