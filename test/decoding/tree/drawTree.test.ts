import { expect } from 'chai';
import { buildTree, rootTree } from '../../../src/decoding/tree/candidateTree.js';
import { drawTree } from '../../../src/decoding/tree/drawTree.js';
import { proposalsOf } from '../../support/reference.js';

describe('drawTree', () => {
  const tree = buildTree(
    4,
    proposalsOf([
      [0.5, 0.25],
      [0.5, 0.25],
    ]),
    { nodes: 6, depth: 2 },
  );

  it('draws children below their parents, with probabilities and the accepted path', () => {
    expect(drawTree(tree, { accepted: { rows: [0, 1, 4] } })).to.equal(
      [
        '4 100.0% ✓',
        '├─ 100 50.0% ✓',
        '│  ├─ 200 25.0%',
        '│  └─ 201 12.5% ✓',
        '└─ 101 25.0%',
        '   └─ 200 12.5%',
      ].join('\n'),
    );
  });

  it('labels nodes as it is told', () => {
    const label = (row: number, isAccepted: boolean): string => `${row}${isAccepted ? '*' : ''}`;
    expect(drawTree(tree, { label, accepted: { rows: [0, 2] } })).to.equal(
      ['0*', '├─ 1', '│  ├─ 3', '│  └─ 4', '└─ 2*', '   └─ 5'].join('\n'),
    );
  });

  it('draws a lone root', () => {
    expect(drawTree(rootTree(9))).to.equal('9 100.0%');
  });
});
