import { expect } from 'chai';
import { prepareModel, UsageError } from '../../src/index.js';

describe('prepareModel', () => {
  const refused = async (options: unknown, report?: unknown): Promise<Error> => {
    const calling = prepareModel(options as Parameters<typeof prepareModel>[0], report as undefined);
    return calling.then(
      () => expect.fail('it was taken'),
      (error: unknown) => error as Error,
    );
  };

  it('names what is wrong with its arguments', async () => {
    for (const [options, words] of [
      [{ modelsDir: '/nowhere', foo: 1 }, 'There is no option foo'],
      [{ modelsDir: 7 }, 'modelsDir must be a text, not 7'],
      [{ heads: 'x.safetensors' }, 'heads must be a list of texts, not "x.safetensors"'],
      [{ precisions: ['fp99'] }, 'precision must be one of int8,'],
      ['int8', 'The options must be an object'],
    ] as const) {
      const error = await refused(options);
      expect(error).to.be.instanceOf(UsageError);
      expect(error.message).to.contain(words);
    }
    expect((await refused({}, () => {})).message).to.contain('report must be an object with begin');
  });
});
