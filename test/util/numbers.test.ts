import { expect } from 'chai';
import { median, sum } from '../../src/util/numbers.js';

describe('numbers', () => {
  it('have a median, whatever their order', () => {
    expect(median([10, 1, 2])).to.equal(2);
    expect(median([4, 1, 20, 3])).to.equal(3.5);
    expect(median([])).to.be.NaN;
  });

  it('have a sum', () => {
    expect(sum([1, 2, 3])).to.equal(6);
    expect(sum([])).to.equal(0);
  });
});
