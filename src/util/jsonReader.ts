import { ModelError } from './errors.js';

/** How each field of an object is read. */
export type FieldReaders<T> = { readonly [K in keyof T]-?: (reader: JsonReader) => T[K] };

interface Range {
  readonly minimum?: number;
  readonly maximum?: number;
  /** Whole numbers only, unless this is false. */
  readonly whole?: boolean;
}

/** What the numbers of a list may be, and how many there must be. */
export interface ListRange extends Range {
  readonly length?: number;
}

/**
 * Reads a JSON value field by field. A field that is missing or of the wrong kind becomes a ModelError that names the
 * file, the field, what was expected and what was found.
 */
export class JsonReader {
  constructor(
    private readonly value: unknown,
    private readonly file: string,
    private readonly path: string,
    /** What the user can do about a damaged file. */
    private readonly mend: string,
  ) {}

  /** @throws ModelError when the text is not JSON */
  static parse(text: string, file: string, mend: string): JsonReader {
    try {
      return new JsonReader(JSON.parse(text), file, '', mend);
    } catch (cause) {
      throw new ModelError(`${file} is not JSON (${(cause as Error).message}). ${mend}`, undefined, {
        cause,
      });
    }
  }

  /** A text that need not be JSON, nor hold what is read: undefined then. */
  static tryParse<T>(text: string, read: (reader: JsonReader) => T): T | undefined {
    try {
      return read(JsonReader.parse(text, '', ''));
    } catch (error) {
      if (error instanceof ModelError) return undefined;
      throw error;
    }
  }

  /** The value as it is, where others look into it. */
  any(): unknown {
    return this.value;
  }

  /** The value of an object whose fields others look into. */
  object(): Record<string, unknown> {
    if (typeof this.value === 'object' && this.value !== null && !Array.isArray(this.value)) {
      return this.value as Record<string, unknown>;
    }
    throw this.error('an object');
  }

  /** All fields of an object whose names are not known before. */
  entries<T>(read: (reader: JsonReader) => T): Record<string, T> {
    return Object.fromEntries(Object.keys(this.object()).map((name) => [name, read(this.field(name))]));
  }

  /**
   * An object whose fields are read one by one; others it has stay as they are. An optional field that is null is left
   * out.
   */
  fields<T extends object>(readers: FieldReaders<T>): T {
    const all = { ...this.object() };
    for (const [name, read] of Object.entries<(reader: JsonReader) => unknown>(readers))
      all[name] = read(this.field(name));
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as T;
  }

  field(name: string): JsonReader {
    const object = this.object();
    const path = this.path === '' ? name : `${this.path}.${name}`;
    // What an object inherits ("constructor") is no field of the file.
    const value = Object.hasOwn(object, name) ? object[name] : undefined;
    return new JsonReader(value, this.file, path, this.mend);
  }

  get isAbsent(): boolean {
    return this.value === undefined || this.value === null;
  }

  string(): string {
    if (typeof this.value === 'string' && this.value !== '') return this.value;
    throw this.error('a text');
  }

  /** A text that may be empty. */
  text(): string {
    if (typeof this.value === 'string') return this.value;
    throw this.error('a text');
  }

  get isList(): boolean {
    return Array.isArray(this.value);
  }

  /** A name of a file in the same folder: nothing that leads out of it. */
  fileName(): string {
    const name = this.string();
    if (/^[^/\\]+$/.test(name) && name !== '.' && name !== '..') return name;
    throw this.error('the name of a file in the same folder');
  }

  count(minimum = 1, maximum = Infinity): number {
    if (isWithin(this.value, { minimum, maximum })) return this.value;
    throw this.error(rangeText({ minimum, maximum }));
  }

  /** A dimension of a shape: a number, or undefined when the graph leaves it open and names it instead. */
  dimension(): number | undefined {
    return typeof this.value === 'string' ? undefined : this.count(0);
  }

  boolean(): boolean {
    if (typeof this.value === 'boolean') return this.value;
    throw this.error('true or false');
  }

  number(): number {
    if (Number.isFinite(this.value)) return this.value as number;
    throw this.error('a number');
  }

  choice<T extends string>(choices: readonly T[]): T {
    if ((choices as readonly unknown[]).includes(this.value)) return this.value as T;
    throw this.error(`one of ${choices.join(', ')}`);
  }

  list<T>(read: (item: JsonReader) => T): T[] {
    if (!Array.isArray(this.value)) throw this.error('a list');
    return this.value.map((_, i) => read(this.item(i)));
  }

  /** A list of numbers, looked at in one pass: there may be very many. */
  numbers(range: ListRange = {}): number[] {
    const { value } = this;
    if (!Array.isArray(value)) throw this.error('a list of numbers');
    if (range.length !== undefined && value.length !== range.length)
      throw this.refuse(`must be a list of ${range.length} numbers, found ${value.length}.`);
    const wrong = value.findIndex((each) => !isWithin(each, range));
    if (wrong >= 0) throw this.item(wrong).error(rangeText(range));
    return value as number[];
  }

  private item(index: number): JsonReader {
    return new JsonReader((this.value as unknown[])[index], this.file, `${this.path}[${index}]`, this.mend);
  }

  nullable<T>(read: (reader: JsonReader) => T): T | null {
    return this.value === null ? null : read(this);
  }

  optional<T>(read: (reader: JsonReader) => T): T | undefined {
    return this.isAbsent ? undefined : read(this);
  }

  /** The error for a field that is of the right kind but wrong for the reason given. */
  refuse(reason: string): ModelError {
    return new ModelError(`${this.file}: ${this.path}: ${reason} ${this.mend}`);
  }

  /** The error for a value of the wrong kind. */
  error(expected: string): ModelError {
    const found = this.value === undefined ? 'nothing' : beginningOf(this.value);
    const where = this.path === '' ? 'its content' : this.path;
    return new ModelError(`${this.file}: ${where} must be ${expected}, found ${found}. ${this.mend}`);
  }
}

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

function beginningOf(value: unknown): string {
  try {
    // JSON.stringify makes null of a number that is too large.
    return typeof value === 'number' ? String(value) : JSON.stringify(value).slice(0, 60);
  } catch {
    return 'lists or objects nested too deeply';
  }
}
