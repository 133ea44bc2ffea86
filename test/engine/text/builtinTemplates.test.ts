import { expect } from 'chai';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { builtinTemplates, chatTemplateText } from '../../../src/engine/text/builtinTemplates.js';
import { ChatTemplate, type ChatMessage } from '../../../src/engine/text/chatTemplate.js';
import { UsageError } from '../../../src/util/errors.js';
import { runMain } from '../../support/cli.js';
import { copyTiny, onTiny, temporaryFolder, tinyFolder, writeManifest } from '../../support/tinyModel.js';

const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });
const system = (content: string): ChatMessage => ({ role: 'system', content });

const conversations: readonly (readonly ChatMessage[])[] = [
  [user('Hi there')],
  [system('Be brief.'), user('Hi')],
  [user('one'), assistant('two'), user('three')],
  [system('S'), user('a'), assistant('b'), user('c'), assistant('d'), user('e')],
  [system(''), user('after an empty system message')],
  [user('line\n  next\n\nlast')],
  [user('日本 </x> {{ 7 * 7 }} é'), assistant('it\'s "quoted"'), user('?')],
];

const vicunaSystem =
  "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";

/**
 * What FastChat's Conversation.get_prompt gives for Vicuna (ADD_COLON_TWO), and the models' owners say for the others; Mistral's
 * puts the system message before the first question, an empty line apart (mistral-common).
 */
const references: Readonly<Record<string, (messages: readonly ChatMessage[]) => string>> = {
  'vicuna_v1.1': (messages) => {
    const [head, turns] = parted(messages);
    const parts = turns.map(
      ({ content }, i) => `${['USER', 'ASSISTANT'][i % 2]}: ${content}${[' ', '</s>'][i % 2]}`,
    );
    return `<s>${head ?? vicunaSystem} ${parts.join('')}ASSISTANT:`;
  },
  'llama-2': (messages) => {
    const [head, turns] = parted(messages);
    const opening = !head ? '' : `<<SYS>>\n${head}\n<</SYS>>\n\n`;
    const parts = turns.map(({ content }, i) =>
      i % 2 === 0 ? `<s>[INST] ${i === 0 ? opening : ''}${content} [/INST]` : ` ${content} </s>`,
    );
    return parts.join('');
  },
  chatml: (messages) => {
    const parts = messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`);
    return `${parts.join('')}<|im_start|>assistant\n`;
  },
  zephyr: (messages) => {
    const parts = messages.map(({ role, content }) => `<|${role}|>\n${content}</s>\n`);
    return `${parts.join('')}<|assistant|>\n`;
  },
  mistral: (messages) => {
    const [head, turns] = parted(messages);
    const parts = turns.map(({ content }, i) => {
      const opening = i === 0 && head ? `${head}\n\n` : '';
      return i % 2 === 0 ? `[INST] ${opening}${content} [/INST]` : ` ${content}</s>`;
    });
    return `<s>${parts.join('')}`;
  },
};

function parted(messages: readonly ChatMessage[]): [string | undefined, readonly ChatMessage[]] {
  return messages[0].role === 'system' ? [messages[0].content, messages.slice(1)] : [undefined, messages];
}

describe('built-in chat templates', function () {
  this.timeout(60_000);
  for (const [name, reference] of Object.entries(references)) {
    it(`${name} writes what such models were trained on, and tells contents from control text`, async () => {
      const config = { bos_token: '<s>', eos_token: '</s>', chat_template: await chatTemplateText(name) };
      const template = new ChatTemplate(config);
      for (const messages of conversations) {
        const segments = template.render(messages, []);
        expect(segments.map(({ text }) => text).join('')).to.equal(reference(messages));
        // An empty message changes what a template writes: the text is then taken as one piece.
        if (messages.some(({ content }) => content === '')) continue;
        const plain = segments.filter(({ kind }) => kind === 'plain').map(({ text }) => text);
        expect(plain).to.deep.equal(messages.map(({ content }) => content));
      }
    });
  }

  it('write nothing for tokens that a tokenizer does not have', async () => {
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Ho' },
      { role: 'user', content: 'One' },
    ];
    for (const [name, reference] of Object.entries(references)) {
      const text = new ChatTemplate({ chat_template: await chatTemplateText(name) })
        .render(messages, [])
        .map((segment) => segment.text)
        .join('');
      expect(text, name).to.equal(reference(messages).replaceAll(/<\/?s>/g, ''));
    }
  });

  it('are all held against a reference', () => {
    expect(Object.keys(references)).to.have.members(Object.keys(builtinTemplates));
  });

  it('are named by an error that a model without one gives; --chat-template takes a name or a file', async () => {
    const temporary = await temporaryFolder();
    try {
      const bare = async (name: string): Promise<string> => {
        const folder = await copyTiny(temporary.path, name);
        const file = join(folder, 'tokenizer_config.json');
        const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
        await writeFile(file, JSON.stringify({ ...config, chat_template: undefined }));
        const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as {
          model: { id: string };
          tokenizer: { config_sha256?: string };
        };
        manifest.model.id = name;
        delete manifest.tokenizer.config_sha256;
        await writeManifest(folder, manifest);
        return folder;
      };
      const generate = async (model: string, ...more: string[]): ReturnType<typeof runMain> =>
        runMain([
          'generate',
          'Hi',
          '--model',
          model,
          '--threads',
          '1',
          '--max-new-tokens',
          '4',
          '--json',
          ...more,
        ]);
      const promptOf = ({ stdout }: { stdout: string }): [number, number[]] => {
        const { prompt_tokens, token_ids } = JSON.parse(stdout) as {
          prompt_tokens: number;
          token_ids: number[];
        };
        return [prompt_tokens, token_ids];
      };

      const nameless = await bare('nameless');
      const refused = await generate(nameless);
      expect(refused.code).to.equal(2);
      expect(refused.stderr).to.match(/no chat template.*--chat-template \(vicuna_v1\.1, .*mistral.*--raw/);
      const chosen = await generate(nameless, '--chat-template', 'vicuna_v1.1');
      expect(chosen.code, chosen.stderr).to.equal(0);

      const vicuna = await bare('tiny-vicuna-v1.5');
      expect((await generate(vicuna, '--raw')).stderr).to.not.contain('vicuna_v1.1');
      const questions = join(temporary.path, 'questions.jsonl');
      await writeFile(questions, JSON.stringify({ question_id: 1, category: 'any', turns: ['Hi'] }));
      const bench = (model: string, ...more: string[]): ReturnType<typeof runMain> =>
        runMain([
          ...['bench', '--model', model, '--threads', '1', '--nodes', '8', '--questions', questions],
          ...['--max-new-tokens', '4', '--output', join(temporary.path, `run${more.length}`), ...more],
        ]);
      for (const model of [vicuna, nameless]) {
        const run = await bench(model, '--raw', ...(model === vicuna ? ['--trace'] : []));
        expect(run.code, run.stderr).to.equal(0);
        expect(run.stderr).to.not.contain('vicuna_v1.1');
      }
      expect((await bench(vicuna)).stderr).to.contain('vicuna_v1.1 is used');
      const implied = await generate(vicuna);
      expect(implied.stderr).to.contain('tiny-vicuna-v1.5 has no chat template: vicuna_v1.1 is used');
      expect(promptOf(implied)).to.deep.equal(promptOf(chosen));

      const file = join(temporary.path, 'own.jinja');
      await writeFile(file, '{{ messages[0].content }}!');
      const own = await generate(tinyFolder, '--chat-template', file);
      const raw = await generate(tinyFolder, '--raw');
      expect(promptOf(own)[0]).to.equal(promptOf(raw)[0] + 1);
      for (const [given, words] of [
        [join(temporary.path, 'none.jinja'), /none of vicuna_v1\.1.*ENOENT/],
        ['', /needs a value/],
      ] as const) {
        const wrong = await generate(tinyFolder, '--chat-template', given);
        expect(wrong.code).to.equal(2);
        expect(wrong.stderr).to.match(words);
      }
      await writeFile(file, ' \n');
      expect((await generate(tinyFolder, '--chat-template', file)).stderr).to.contain('is empty');
      expect(await chatTemplateText('zephyr').catch((error: unknown) => error)).to.not.be.instanceOf(
        UsageError,
      );
    } finally {
      await temporary.remove();
    }
  });

  it('leave the choice of thinking to --thinking only where the template reads it', async () => {
    const thinker = new ChatTemplate({
      chat_template:
        '{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}',
    });
    const text = (choice?: { thinking?: boolean }): string =>
      thinker
        .render([user('q')], [], choice)
        .map((segment) => segment.text)
        .join('');
    expect([text(), text({ thinking: true }), text({ thinking: false })]).to.deep.equal([
      'q',
      'q',
      'q<think></think>',
    ]);
    const refused = await runMain([
      'generate',
      'Hi',
      ...onTiny,
      '--max-new-tokens',
      '2',
      '--thinking',
      'off',
    ]);
    expect(refused.code).to.equal(2);
    expect(refused.stderr).to.match(/does not leave the choice of thinking.*--thinking/);
  });
});
