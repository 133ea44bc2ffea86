/**
 * Says the same as a tokenizer.json's pre-tokenizer in ways on which the library under us and the reference (Hugging
 * Face tokenizers, in Rust) agree.
 *
 * - Digits: the reference takes every numeric character (½, ², Ⅳ), the library only decimal digits.
 * - ByteLevel with its regular expression: the library's `\s` is JavaScript's, which counts U+FEFF as white space and
 *   U+0085 not. In a Split's expression it translates `\s` itself, rightly.
 */
export function portablePreTokenizer(preTokenizer: unknown): unknown {
  if (!isObject(preTokenizer)) return preTokenizer;
  switch (preTokenizer.type) {
    case 'Sequence': {
      const parts = (preTokenizer.pretokenizers as unknown[]).map(portablePreTokenizer);
      return { ...preTokenizer, pretokenizers: parts };
    }
    case 'Digits':
      return split(preTokenizer.individual_digits ? '\\p{N}' : '\\p{N}+');
    case 'ByteLevel':
      // The added space would have to come before the split: such tokenizers stay as they are.
      if (preTokenizer.use_regex === false || preTokenizer.add_prefix_space === true) return preTokenizer;
      return {
        type: 'Sequence',
        pretokenizers: [split(byteLevelPattern), { ...preTokenizer, use_regex: false }],
      };
    default:
      return preTokenizer;
  }
}

/** GPT-2's expression, which ByteLevel stands for. */
const byteLevelPattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

function split(pattern: string): unknown {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
