/** Questions in FastChat's schema: one JSON object a line, checked before anything runs. */
import { UsageError } from '../../util/errors.js';
import { sha256OfText } from '../../util/sha256.js';

export type QuestionId = number | string;

export interface Question {
  readonly question_id: QuestionId;
  readonly category: string;
  /** User turns, asked one after the other in one conversation. */
  readonly turns: readonly string[];
  /** Reference answers by turn, where a judge needs them. */
  readonly reference?: readonly string[];
}

export interface QuestionSet {
  /** How the set was asked for: `builtin`, `mt-bench` or a path. */
  readonly name: string;
  /** The file, and the SHA-256 of its bytes. */
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly questions: readonly Question[];
}

/** Reads a question file's bytes. Errors name the file, the line and what to do. */
export function parseQuestions(bytes: Uint8Array, name: string): QuestionSet {
  const questions: Question[] = [];
  const lineOf = new Map<string, number>();
  decodeUtf8(bytes, name)
    .split('\n')
    .forEach((line, index) => {
      if (line.trim() === '') return;
      const question = parseQuestion(line, `${name}, line ${index + 1}`);
      const key = String(question.question_id);
      const earlier = lineOf.get(key);
      if (earlier !== undefined) {
        throw new UsageError(
          `${name}, line ${index + 1}: question_id ${key} was already used on line ${earlier}; ` +
            'give each question an id of its own',
        );
      }
      lineOf.set(key, index + 1);
      questions.push(question);
    });
  if (questions.length === 0) {
    throw new UsageError(
      `${name} holds no questions; expected one JSON object a line (FastChat's question.jsonl)`,
    );
  }
  return { name, bytes, sha256: sha256OfText(bytes), questions };
}

function parseQuestion(line: string, where: string): Question {
  const value = parseObject(line, where);
  const { question_id: id, category, turns, reference } = value;
  if (!(Number.isSafeInteger(id) || (typeof id === 'string' && id !== ''))) {
    throw new UsageError(`${where}: question_id must be a whole number or a text, not ${show(id)}`);
  }
  if (typeof category !== 'string' || category === '') {
    throw new UsageError(`${where}: category must be a text such as "writing", not ${show(category)}`);
  }
  if (!isTextList(turns) || turns.length === 0 || turns.some((turn) => turn.trim() === '')) {
    throw new UsageError(`${where}: turns must be a list of at least one non-empty text, not ${show(turns)}`);
  }
  if (reference !== undefined && reference !== null && !isTextList(reference)) {
    throw new UsageError(`${where}: reference must be a list of texts (or left out), not ${show(reference)}`);
  }
  return {
    question_id: id as QuestionId,
    category,
    turns,
    ...(isTextList(reference) ? { reference } : {}),
  };
}

/** Parses one line as a JSON object. */
export function parseObject(line: string, where: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new UsageError(`${where}: not valid JSON (${(error as Error).message})`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageError(`${where}: expected a JSON object, found ${show(value)}`);
  }
  return value as Record<string, unknown>;
}

/** Decodes UTF-8 strictly; a text in another encoding is named as such instead of becoming wrong questions. */
export function decodeUtf8(bytes: Uint8Array, name: string): string {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    throw new UsageError(`${name} is UTF-16 text; save it as UTF-8`);
  }
  const text = tryDecode(bytes);
  if (text === undefined) {
    throw new UsageError(`${name}, line ${firstBadLine(bytes)}: not valid UTF-8; save the file as UTF-8`);
  }
  if (text.includes('\0')) {
    const line = text.slice(0, text.indexOf('\0')).split('\n').length;
    throw new UsageError(`${name}, line ${line}: contains a NUL byte; is this a text file in UTF-8?`);
  }
  return text;
}

function tryDecode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function firstBadLine(bytes: Uint8Array): number {
  let start = 0;
  for (let line = 1; ; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    if (newline < 0 || tryDecode(bytes.subarray(start, end)) === undefined) return line;
    start = end + 1;
  }
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing (it is missing)';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
