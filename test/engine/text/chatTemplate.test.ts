import { Template } from '@huggingface/jinja';
import { expect } from 'chai';
import { ModelError, UsageError } from '../../../src/util/errors.js';
import { ChatTemplate, checkTemplate } from '../../../src/engine/text/chatTemplate.js';

const chatMl =
  "{% for m in messages %}{{'<s>' + m['role'] + '\\n' + m['content'] + '</s>\\n'}}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}";
const controls = ['<s>', '</s>'];
const user = (content: string): { role: string; content: string }[] => [{ role: 'user', content }];

describe('ChatTemplate', () => {
  it('tells what the template wrote from what the user wrote', () => {
    const segments = new ChatTemplate({ chat_template: chatMl }).render(user('hi</s>'), controls);
    expect(segments).to.deep.equal([
      { kind: 'control', text: '<s>user\n' },
      { kind: 'plain', text: 'hi</s>' },
      { kind: 'control', text: '</s>\n<s>assistant\n' },
    ]);
  });

  it('follows templates that trim', () => {
    const template = new ChatTemplate({ chat_template: '[{{ messages[0].content | trim }}]' });
    const segments = template.render(user(' </s> '), controls);
    expect(segments[1]).to.deep.equal({ kind: 'plain', text: '</s>' });
  });

  it('takes the text as one piece when the template changes the contents otherwise', () => {
    const template = new ChatTemplate({ chat_template: '[{{ messages[0].content | upper }}]' });
    expect(template.render(user('hi'), controls)).to.deep.equal([{ kind: 'control', text: '[HI]' }]);
  });

  it('refuses control tokens in a message it cannot tell apart', () => {
    const template = new ChatTemplate({ chat_template: '[{{ messages[0].content | upper }}]' });
    expect(() => template.render(user('hi </s>'), controls)).to.throw(UsageError, '</s>');
  });

  it('refuses a text that prints nothing of the messages', () => {
    const template = new ChatTemplate({ chat_template: 'A README. {{ messages | length }}' });
    expect(() => template.render(user('hi'), controls)).to.throw(
      UsageError,
      'prints nothing of the messages',
    );
    expect(() => checkTemplate('README.md', 'A README.')).to.throw(
      UsageError,
      '--chat-template README.md is none: it prints nothing of the messages',
    );
    expect(() => checkTemplate('upper', '[{{ messages[0].content | upper }}]')).not.to.throw();
  });

  it('passes on what a template says when it refuses', () => {
    const template = new ChatTemplate({ chat_template: "{{ raise_exception('roles must alternate') }}" });
    expect(() => template.render(user('hi'), controls)).to.throw(UsageError, 'roles must alternate');
  });

  it('knows bos_token, given as text or as an object', () => {
    const config = {
      chat_template: '{{ bos_token }}{{ eos_token }}{{ messages[0].content }}',
      bos_token: '<s>',
      eos_token: { content: '</s>' },
    };
    expect(new ChatTemplate(config).render(user('hi'), [])[0].text).to.equal('<s></s>');
  });

  it('takes the default of several templates', () => {
    const chat_template = [
      { name: 'tool_use', template: 'no' },
      { name: 'default', template: 'yes{{ messages[0].content }}' },
    ];
    expect(new ChatTemplate({ chat_template }).render(user('hi'), [])[0].text).to.equal('yes');
  });

  it('says when there is none, or when it cannot be parsed', () => {
    expect(() => new ChatTemplate({}).render(user('hi'), [])).to.throw(UsageError, '--raw');
    expect(() => new ChatTemplate({ chat_template: '{% if %}' })).to.throw(ModelError, 'cannot be parsed');
  });

  for (const [source, limit] of [
    ['{% for a in range(1000) %}{% for b in range(1000) %}{{ a }}{% endfor %}{% endfor %}', 'steps'],
    ['{% for a in range(30000000) %}{% endfor %}', 'range'],
    [
      "{% set n = namespace(x='x') %}{% for a in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}",
      'characters',
    ],
    ['{% set n = namespace(x=[1]) %}{% for a in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}', 'items'],
  ]) {
    it(`ends ${source}`, () => {
      const template = new ChatTemplate({ chat_template: source });
      expect(() => template.render(user('hi'), [])).to.throw(UsageError, limit);
    });
  }

  it('gives templates what the library does', () => {
    const values =
      "{{ range(3) | join }}{{ range(1, 3) | join }}{{ range(4, 0, -2) | join }}{{ True }}{{ none }}{{ strftime_now('%Y') }}";
    const chat_template = `${values}{{ messages[0].content }}`;
    const [{ text }] = new ChatTemplate({ chat_template }).render(user('hi'), []);
    expect(text).to.match(/^0121242.*\d{4}$/);
    expect(text).to.equal(new Template(values).render());
  });

  it('does not mistake its own placeholders in a message', () => {
    const segments = new ChatTemplate({ chat_template: chatMl }).render(user('\ufdd10\ufdd2'), controls);
    expect(segments[1].text).to.equal('\ufffd0\ufffd');
  });
});
