/** Reads `decoding` of a run.json: each option as the table describes it. */
import { decodingTable } from '../../engine/options/decodingOptions.js';
import type { Entry } from '../../engine/options/entry.js';
import { recordedDecoding } from '../../engine/options/table.js';
import type { FieldReaders, JsonReader } from '../../util/jsonReader.js';
import type { RunDecoding } from './formats.js';

const readers = {
  ...Object.fromEntries(
    recordedDecoding.map(([name, entry]) => [name, (reader: JsonReader) => readValue(reader, entry)]),
  ),
  // Trees of a file may have any number of nodes.
  nodes: (nodes) => (nodes.any() === 'auto' ? 'auto' : nodes.count()),
  // 0 without heads.
  headsUsed: (heads) => heads.count(0, decodingTable.headsUsed.range.maximum),
  // As it was asked for: of itself it depends on the temperature of the question.
  acceptance: (acceptance) => acceptance.choice(['auto', ...Object.keys(decodingTable.acceptance.choices)]),
} as FieldReaders<RunDecoding>;

export function readDecoding(reader: JsonReader): RunDecoding {
  const decoding = reader.fields(readers);
  // Those of a tree file once had other nodes than its own.
  return decoding.treePaths ? { ...decoding, nodes: decoding.treePaths.length + 1 } : decoding;
}

function readValue(reader: JsonReader, entry: Entry): unknown {
  // Runs from before there was the option.
  if (reader.isAbsent && entry.whenAbsent !== undefined) return entry.whenAbsent;
  switch (entry.kind) {
    case 'number': {
      const { integer, minimum, maximum } = entry.range;
      return integer ? reader.count(minimum, maximum) : reader.number();
    }
    case 'choice':
      return reader.choice(Object.keys(entry.choices));
    case 'flag':
      return reader.boolean();
    case 'text':
      return reader.text();
    case 'texts':
      return reader.list((text) => text.text());
    case 'paths':
      return reader.optional((paths) => paths.list((path) => path.numbers({ minimum: 0 })));
  }
}
