/** `decoding` of a run.json: each option as the table describes it. */
import * as v from 'valibot';
import { decodingTable, type ResolvedDecodingOptions } from '../../engine/options/decodingOptions.js';
import type { Entry } from '../../engine/options/entry.js';
import { recordedDecoding } from '../../engine/options/table.js';
import { choice, count, flag, list, number, numbers, object, text, type Schema } from '../../util/json.js';

/** The decoding options that make a run what it is; seed and temperature are set per question. */
export type RunDecoding = Omit<ResolvedDecodingOptions, 'temperature' | 'acceptance' | 'seed'> & {
  /** `auto`: greedy at temperature 0, sampling above. */
  readonly acceptance: string;
};

const fields = object({
  ...Object.fromEntries(recordedDecoding.map(([name, entry]) => [name, schemaOf(entry)])),
  // Trees of a file may have any number of nodes.
  nodes: v.union([v.literal('auto'), count()], 'auto or a whole number of at least 1'),
  // 0 without heads.
  headsUsed: count(0, decodingTable.headsUsed.range.maximum),
  // As it was asked for: of itself it depends on the temperature of the question.
  acceptance: choice(['auto', ...Object.keys(decodingTable.acceptance.choices)]),
}) as Schema<unknown> as Schema<RunDecoding>;

export const decodingSchema: Schema<RunDecoding> = v.pipe(
  fields,
  // Those of a tree file once had other nodes than its own.
  v.transform((each) => (each.treePaths ? { ...each, nodes: each.treePaths.length + 1 } : each)),
  // Where the draft was heads, with or without a lookup.
  v.transform((each: RunDecoding & { lookup?: unknown }) =>
    each.lookup === 'on' ? { ...each, draft: ['heads', 'lookup'] as const } : each,
  ),
);

function schemaOf(entry: Entry): Schema<unknown> {
  const schema = valueSchema(entry);
  // Runs from before there was the option.
  return entry.whenAbsent === undefined ? schema : v.nullish(schema, entry.whenAbsent);
}

function valueSchema(entry: Entry): Schema<unknown> {
  switch (entry.kind) {
    case 'number': {
      const { integer, minimum, maximum } = entry.range;
      return integer ? count(minimum, maximum) : number;
    }
    case 'choice':
      return choice(Object.keys(entry.choices));
    case 'set':
      return list(choice(Object.keys(entry.choices)));
    case 'flag':
      return flag;
    case 'text':
      return text;
    case 'texts':
      return list(text);
    case 'paths':
      return v.optional(list(numbers({ minimum: 0 })));
  }
}
