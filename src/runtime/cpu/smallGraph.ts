/**
 * A graph of one node as the bytes of an ONNX file, for asking ONNX Runtime what a kernel computes on this machine.
 * Field numbers are those of onnx.proto.
 */

type ElementType = 'float32' | 'uint8' | 'int8';

/** A constant of the graph, row by row. */
interface Constant {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: Float32Array | Uint8Array | Int8Array;
}

export interface SmallGraph {
  readonly op: string;
  /** Whole numbers. */
  readonly attributes?: Readonly<Record<string, number>>;
  /** Names in the order of the node's inputs: `x` is the graph's input, the others are constants. */
  readonly inputs: readonly string[];
  readonly constants: Readonly<Record<string, Constant>>;
  /** Element type of `x` [n, columns]. The output `y` [n, outputs] is float32. */
  readonly inputType: ElementType;
  readonly columns: number;
  readonly outputs: number;
}

/** The graph as a model of opset 21 with one node of the domain com.microsoft. */
export function encodeGraph(graph: SmallGraph): Uint8Array {
  const attributes = Object.entries(graph.attributes ?? {}).map(([name, value]) =>
    message(5, [text(1, name), number(3, value), number(20, 2)]),
  );
  const node = message(1, [
    ...graph.inputs.map((name) => text(1, name)),
    text(2, 'y'),
    text(4, graph.op),
    ...attributes,
    text(7, 'com.microsoft'),
  ]);
  const constants = Object.entries(graph.constants).map(([name, { type, dims, data }]) =>
    message(5, [
      ...dims.map((size) => number(1, size)),
      number(2, elementTypes[type]),
      text(8, name),
      bytes(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
    ]),
  );
  return Buffer.concat([
    number(1, 10),
    message(8, [text(1, ''), number(2, 21)]),
    message(8, [text(1, 'com.microsoft'), number(2, 1)]),
    message(7, [
      node,
      text(2, 'probe'),
      ...constants,
      matrix(11, 'x', graph.inputType, graph.columns),
      matrix(12, 'y', 'float32', graph.outputs),
    ]),
  ]);
}

const elementTypes: Record<ElementType, number> = { float32: 1, uint8: 2, int8: 3 };

/** A value of shape [n, columns]. */
function matrix(field: number, name: string, type: ElementType, columns: number): Buffer {
  const shape = message(2, [message(1, [text(2, 'n')]), message(1, [number(1, columns)])]);
  const tensor = message(1, [number(1, elementTypes[type]), shape]);
  return message(field, [text(1, name), message(2, [tensor])]);
}

function message(field: number, parts: readonly Buffer[]): Buffer {
  return bytes(field, Buffer.concat(parts));
}

function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);
}

function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

function varint(value: number): Buffer {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return Buffer.from([...out, value]);
}
