import { ModelError } from '../errors.js';

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

  count(minimum = 1): number {
    if (Number.isInteger(this.value) && (this.value as number) >= minimum) return this.value as number;
    throw this.error(`a whole number of at least ${minimum}`);
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
    return this.value.map((item, i) =>
      read(new JsonReader(item, this.file, `${this.path}[${i}]`, this.mend)),
    );
  }

  optional<T>(read: (reader: JsonReader) => T): T | undefined {
    return this.isAbsent ? undefined : read(this);
  }

  /** The error for a field that is of the right kind but wrong for the reason given. */
  refuse(reason: string): ModelError {
    return new ModelError(`${this.file}: ${this.path}: ${reason} ${this.mend}`);
  }

  private error(expected: string): ModelError {
    const found = this.value === undefined ? 'nothing' : JSON.stringify(this.value)?.slice(0, 60);
    const where = this.path === '' ? 'its content' : this.path;
    return new ModelError(`${this.file}: ${where} must be ${expected}, found ${found}. ${this.mend}`);
  }
}
