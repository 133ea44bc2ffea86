/**
 * The arithmetic of `ScoreKernel`, in AssemblyScript: what a node's children weigh. float32, four lanes at a time.
 * `npm run kernel` compiles it into scoreKernelBytes.ts.
 */

/** exp overflows float32 above, and is no normal number below. */
const LARGEST_EXPONENT: f32 = 88;
const LEAST_EXPONENT: f32 = -87;
/** Larger scores would leave the range of exp; trained ones are far smaller. */
const LARGEST_SCORE: f32 = 60;

/** e^x within 2 units in the last place; exactly 1 at 0. Cephes' expf: x = n ln 2 + r, a polynomial in r, n into the exponent. */
function exp(x: v128): v128 {
  x = f32x4.pmin(f32x4.splat(LARGEST_EXPONENT), f32x4.pmax(f32x4.splat(LEAST_EXPONENT), x));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504)));
  // ln 2 in two parts, so that n ln 2 is exact where it matters.
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(2.1219444e-4)));
  let p = f32x4.splat(1.98756915e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.39819995e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.33345191e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.16657959e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.66666665e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.00000012e-1));
  p = f32x4.add(f32x4.mul(f32x4.mul(p, r), r), f32x4.add(r, f32x4.splat(1)));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

/** Sums of the lanes of four vectors. */
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}

/**
 * weights[y] = probabilities[y] * e^s(y), s(y) = (gains * activation(biases + sum of the terms)) . rows[y], limited to +-60.
 *
 * All arguments but `terms` and the last three are addresses of float32 values.
 *
 * @param query [max(terms, 1), rank] the terms; the first row is overwritten
 * @param biases [rank]; 0 for none, as with the gains
 * @param gains [rank]
 * @param rows [width, rank]
 * @param probabilities [width]
 * @param weights [width]
 * @param rank a multiple of 4, as `width` is
 */
export function weigh(
  query: usize,
  terms: i32,
  biases: usize,
  gains: usize,
  rows: usize,
  probabilities: usize,
  weights: usize,
  rank: i32,
  width: i32,
  silu: bool,
): void {
  const bytes: usize = <usize>rank * 4;
  const end = query + <usize>terms * bytes;
  for (let at: usize = 0; at < bytes; at += 16) {
    let c = biases ? v128.load(biases + at) : f32x4.splat(0);
    for (let term = query + at; term < end; term += bytes) c = f32x4.add(c, v128.load(term));
    if (silu) c = f32x4.div(c, f32x4.add(f32x4.splat(1), exp(f32x4.neg(c))));
    if (gains) c = f32x4.mul(c, v128.load(gains + at));
    v128.store(query + at, c);
  }
  for (let row = 0; row < width; row += 4) {
    // Four rows at a time read each value of the query once.
    const row0 = rows + <usize>row * bytes;
    const row1 = row0 + bytes;
    const row2 = row1 + bytes;
    const row3 = row2 + bytes;
    let sum0 = f32x4.splat(0);
    let sum1 = sum0;
    let sum2 = sum0;
    let sum3 = sum0;
    for (let at: usize = 0; at < bytes; at += 16) {
      const c = v128.load(query + at);
      sum0 = f32x4.add(sum0, f32x4.mul(c, v128.load(row0 + at)));
      sum1 = f32x4.add(sum1, f32x4.mul(c, v128.load(row1 + at)));
      sum2 = f32x4.add(sum2, f32x4.mul(c, v128.load(row2 + at)));
      sum3 = f32x4.add(sum3, f32x4.mul(c, v128.load(row3 + at)));
    }
    let score = sums(sum0, sum1, sum2, sum3);
    // In this order NaN (a damaged table) counts as the least.
    score = f32x4.pmin(f32x4.splat(LARGEST_SCORE), f32x4.pmax(f32x4.splat(-LARGEST_SCORE), score));
    const at: usize = <usize>row * 4;
    v128.store(weights + at, f32x4.mul(v128.load(probabilities + at), exp(score)));
  }
}
