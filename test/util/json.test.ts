import { expect } from 'chai';
import * as v from 'valibot';
import { ModelError } from '../../src/util/errors.js';
import {
  across,
  checkJson,
  choice,
  count,
  fileName,
  flag,
  list,
  name,
  nullable,
  number,
  numbers,
  object,
  optional,
  readJson,
  record,
  text,
  tryJson,
  type Schema,
} from '../../src/util/json.js';

const schema = object({
  id: count(),
  size: count(0, 9),
  share: number,
  kind: choice(['a', 'b']),
  on: flag,
  file: fileName,
  remark: optional(text),
  end: nullable(text),
  all: list(object({ name })),
  ranks: numbers({ minimum: 0 }),
  byName: record(number),
});

const whole = {
  id: 1,
  size: 9,
  share: 0.5,
  kind: 'a',
  on: true,
  file: 'x.onnx',
  end: null,
  all: [{ name: 'first' }],
  ranks: [0, 1],
  byName: { one: 1 },
};

const refusal = <T>(expected: Schema<T>, value: unknown): string => {
  try {
    checkJson(expected, value, 'file.json', 'Make it again.');
    return 'nothing wrong';
  } catch (error) {
    expect(error).to.be.instanceOf(ModelError);
    return (error as Error).message;
  }
};

describe('JSON', () => {
  it('is given as it is, with fields that are not known; what is optional may be null', () => {
    expect(checkJson(schema, { ...whole, more: [1] }, '', '')).to.deep.equal({
      ...whole,
      remark: undefined,
      more: [1],
    });
    expect(checkJson(schema, { ...whole, remark: null }, '', '').remark).to.equal(undefined);
  });

  const cases: [change: object, message: string][] = [
    [{ id: undefined }, 'id must be a whole number of at least 1, found nothing'],
    [{ id: 1.5 }, 'id must be a whole number of at least 1, found 1.5'],
    [{ size: 10 }, 'size must be a whole number from 0 to 9, found 10'],
    [{ share: Infinity }, 'share must be a number, found Infinity'],
    [{ kind: 'c' }, 'kind must be one of a, b, found "c"'],
    [{ on: 1 }, 'on must be true or false, found 1'],
    [{ file: '../x' }, 'file must be the name of a file in the same folder, found "../x"'],
    [{ file: '' }, 'file must be a text that is not empty, found ""'],
    [{ remark: 7 }, 'remark must be a text, found 7'],
    [{ end: undefined }, 'end must be a text, found nothing'],
    [{ all: {} }, 'all must be a list, found {}'],
    [{ all: [{ name: 'a' }, []] }, 'all[1] must be an object, found []'],
    [{ all: [{ name: 'a' }, {}] }, 'all[1].name must be a text, found nothing'],
    [{ ranks: [1, -1] }, 'ranks[1] must be a whole number of at least 0, found -1'],
    [{ ranks: 'x' }, 'ranks must be a list of numbers, found "x"'],
    [{ byName: { one: null } }, 'byName.one must be a number, found null'],
    [{ byName: [] }, 'byName must be an object, found []'],
  ];
  for (const [change, message] of cases) {
    it(message, () => {
      expect(refusal(schema, { ...whole, ...change })).to.equal(`file.json: ${message}. Make it again.`);
    });
  }

  it('of another kind, or none, is said to be so', () => {
    expect(refusal(schema, null)).to.contain('file.json: its content must be an object, found null.');
    expect(() => readJson(schema, '{', 'file.json', 'Make it again.'))
      .to.throw(ModelError)
      .with.property('message')
      .that.matches(/^file\.json is not JSON \(.*\)\. Make it again\.$/);
    expect(tryJson(schema, '{')).to.equal(undefined);
    expect(tryJson(schema, '{}')).to.equal(undefined);
    expect(tryJson(schema, JSON.stringify(whole))?.id).to.equal(1);
  });

  it('takes nothing that an object inherits for a field', () => {
    expect(refusal(object({ constructor: text }), {})).to.contain(
      'constructor must be a text, found nothing',
    );
    const hostile = JSON.parse('{"__proto__": {"id": 1}}') as unknown;
    expect(refusal(object({ id: count() }), hostile)).to.contain('id must be');
  });

  it('shows the beginning of long values, and does not trip over deep ones', () => {
    expect(refusal(list(count()), ['x'.repeat(1000)]).length).to.be.below(150);
    const deep = JSON.parse('['.repeat(20_000) + ']'.repeat(20_000)) as unknown;
    expect(refusal(text, deep)).to.contain('found lists or objects nested too deeply');
  });

  it('can be checked across fields', () => {
    const pair = v.pipe(
      object({ size: count(), parts: object({ names: list(text) }) }),
      across(({ size, parts }) =>
        parts.names.length === size ? undefined : { at: ['parts', 'names'], expected: `${size} names` },
      ),
    );
    expect(refusal(pair, { size: 1, parts: { names: ['a'] } })).to.equal('nothing wrong');
    expect(refusal(pair, { size: 2, parts: { names: ['a'] } })).to.contain(
      'parts.names must be 2 names, found ["a"]',
    );
  });
});
