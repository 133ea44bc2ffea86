import type { ChatTemplate } from '../../src/engine/text/chatTemplate.js';
import type { Tokenizer } from '../../src/engine/text/tokenizer.js';
import { defaultModelFolder, openDefaultModel } from '../support/defaultModel.js';
import { tokenizerOf } from '../support/tinyModel.js';
import { testAgainstReference } from '../support/tokenizerReference.js';

describe("The default model's tokenizer", function () {
  this.timeout(600_000);

  let loaded: { tokenizer: Tokenizer; chatTemplate: ChatTemplate };
  before(async () => {
    await (await openDefaultModel()).dispose();
    loaded = await tokenizerOf(defaultModelFolder());
  });

  testAgainstReference('smollm2', () => loaded);
});
