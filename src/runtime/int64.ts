/**
 * The low halves of `length` int64 values: token ids fit, and reading each as a BigInt would cost more than the rest
 * of a step's bookkeeping. (All platforms of ONNX Runtime are little-endian; `writeInt64` in treeMask is the reverse.)
 */
export function toInt32(values: BigInt64Array, length = values.length): Int32Array {
  const halves = new Int32Array(values.buffer, values.byteOffset, 2 * length);
  const result = new Int32Array(length);
  for (let i = 0; i < length; i++) result[i] = halves[2 * i];
  return result;
}
