import { expect } from 'chai';
import fc from 'fast-check';
import {
  chainParents,
  closedFloat16Bits,
  closedFloat32,
  fillTreeBias,
  sharedLayout,
  splitLayout,
  writeInt64,
  type BiasLayout,
} from '../../../src/decoding/tree/treeMask.js';

/** Parents of a random tree: any earlier row. */
const parents = fc
  .array(fc.nat(), { maxLength: 20 })
  .map((choices) => Int32Array.from([-1, ...choices.map((choice, i) => choice % (i + 1))]));

/** The mask by definition: a node sees the past, its ancestors and itself. */
function isOpen(parents: Int32Array, row: number, column: number, { past, treeColumn }: BiasLayout): boolean {
  if (column < past) return true;
  for (let at = row; at !== -1; at = parents[at]) {
    if (column === treeColumn + at) return true;
  }
  return false;
}

function expectMask(target: ArrayLike<number>, tree: Int32Array, layout: BiasLayout): void {
  for (let row = 0; row < tree.length; row++) {
    for (let column = 0; column < layout.rowLength; column++) {
      const open = isOpen(tree, row, column, layout);
      expect(target[row * layout.rowLength + column], `row ${row}, column ${column}`).to.equal(
        open ? 0 : layout.closed,
      );
    }
  }
}

describe('fillTreeBias', () => {
  it('opens the past, the ancestors and the node itself in layout "split"', () => {
    fc.assert(
      fc.property(parents, fc.nat(9), fc.nat(9), (tree, past, padding) => {
        const layout = splitLayout(past, past + padding, tree.length);
        const target = new Float32Array(tree.length * layout.rowLength + 3).fill(7);
        fillTreeBias(target, tree, tree.length, layout);
        expectMask(target, tree, layout);
        expect([...target.subarray(-3)]).to.deep.equal([7, 7, 7]);
      }),
    );
  });

  it('puts the tree right behind the past in layout "shared", in float32 and in the bits of float16', () => {
    fc.assert(
      fc.property(parents, fc.nat(9), fc.nat(9), (tree, past, padding) => {
        const total = past + tree.length + padding;
        const single = new Float32Array(tree.length * total).fill(7);
        fillTreeBias(single, tree, tree.length, sharedLayout(past, total, -10000));
        expectMask(single, tree, sharedLayout(past, total, -10000));
        const half = new Uint16Array(tree.length * total).fill(7);
        fillTreeBias(half, tree, tree.length, sharedLayout(past, total, closedFloat16Bits));
        expectMask(half, tree, sharedLayout(past, total, closedFloat16Bits));
      }),
    );
  });

  it('closes with -1e9, and with -10000 in float16', () => {
    expect(closedFloat32).to.equal(-1e9);
    const sign = closedFloat16Bits >> 15 ? -1 : 1;
    const exponent = ((closedFloat16Bits >> 10) & 31) - 15;
    const mantissa = 1 + (closedFloat16Bits & 1023) / 1024;
    expect(sign * mantissa * 2 ** exponent).to.equal(-10000);
  });

  it('is causal for a chunk of the prompt', () => {
    const layout = splitLayout(2, 3, 4);
    const target = new Float32Array(4 * 7);
    fillTreeBias(target, chainParents(4), 4, layout);
    expectMask(target, chainParents(4), layout);
    expect([...target].map((value) => (value === 0 ? 1 : 0)).join('')).to.equal(
      '1101000' + '1101100' + '1101110' + '1101111',
    );
  });

  it('refuses a buffer or a layout that is too small', () => {
    const tree = chainParents(4);
    expect(() => fillTreeBias(new Float32Array(27), tree, 4, splitLayout(2, 3, 4))).to.throw(
      RangeError,
      /27 values/,
    );
    expect(() => fillTreeBias(new Float32Array(99), tree, 4, splitLayout(4, 3, 4))).to.throw(RangeError);
    expect(() => fillTreeBias(new Float32Array(99), tree, 4, sharedLayout(3, 6, -1e4))).to.throw(RangeError);
  });
});

describe('writeInt64', () => {
  it('writes values with an offset and leaves the rest alone', () => {
    const buffer = new BigInt64Array(6).fill(-1n);
    writeInt64(buffer.subarray(1), [0, 1, 2, 49151], 4, 100);
    expect([...buffer]).to.deep.equal([-1n, 100n, 101n, 102n, 49251n, -1n]);
  });
});
