import { describe, expect, it } from 'vitest';
import { encodeChat, renderChat, type ChatMessage } from '../../lib/text/chat.js';
import { Tokenizer } from '../../lib/text/tokenizer.js';
import { byteVocabulary } from './small_vocabularies.js';

const talk: ChatMessage[] = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
  { role: 'user', content: 'Bye' },
];

const kChatMl = `{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`;
const kQwen = `{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\n You are helpful.<|im_end|>\n' }}{%- endif %}${kChatMl}`;
const kLlama3 = `{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}`;
const kLlama2 = `{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}`;
const kMistral = `{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('After the optional system message, roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}`;
const tokens = { bosToken: '<s>', eosToken: '</s>' };

describe('renderChat', () => {
  it('renders the forms in use', () => {
    const chatMl =
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n';
    expect(renderChat(kChatMl, talk)).toBe(`${chatMl}<|im_start|>assistant\n`);
    expect(renderChat(kChatMl, talk, { addGenerationPrompt: false })).toBe(chatMl);
    expect(renderChat(kQwen, talk.slice(1, 2))).toBe(
      '<|im_start|>system\n You are helpful.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    );
    expect(renderChat(kLlama3, talk.slice(0, 2), { bosToken: '<B>' })).toBe(
      '<B><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
    );
    expect(renderChat(kLlama2, talk, tokens)).toBe('<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]');
  });

  it('folds a system message into the first user message where the template has no place for it', () => {
    expect(renderChat(kMistral, talk, tokens)).toBe('<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]');
  });

  it('keeps the white space at the beginning of a template', () => {
    expect(renderChat('\n x', talk)).toBe('\n x');
    expect(renderChat('  {% if true %}\nx{% endif %}', talk)).toBe('x');
  });

  it('falls back to plain text without a template', () => {
    expect(renderChat(undefined, talk.slice(0, 2))).toBe('Be brief.\n\nHi');
    expect(renderChat('', talk.slice(1, 2))).toBe('Hi');
  });

  it.each([
    ['{% if %}', /rendered/],
    ['{{ raise_exception("no such role") }}', /no such role/],
    ['{% for i in range(100001) %}x{% endfor %}', /range/],
    ['{% for i in range(1000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}', /range/],
    ['{{ range(1, 5, 0) }}', /range/],
    ['{{ nonesuch() }}', /rendered/],
    ['x'.repeat((1 << 20) + 1), /characters/],
  ])('says what is wrong with a template: %.60s', (template, message) => {
    let error: unknown;
    try {
      renderChat(template, talk.slice(1));
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'BANYAN_BAD_TEMPLATE', message: expect.stringMatching(message) as string });
  });

  it('shows a template nothing but its variables', () => {
    const probes = [
      'messages.constructor',
      'messages.__proto__',
      'messages[0].constructor',
      'messages[0].content.constructor',
      'range.constructor',
      'globalThis',
      'process',
      'this',
    ];
    for (const probe of probes) {
      let text: string;
      try {
        text = renderChat(`{{ ${probe} }}`, talk);
      } catch {
        continue;
      }
      expect(text, probe).not.toMatch(/function|native|\[object/);
    }
    expect(() => renderChat("{{ messages.constructor.constructor('return process')() }}", talk)).toThrow();
    expect(renderChat('{% for i in range(2, 8, 3) %}{{ i }} {% endfor %}{% for i in range(2) %}{{ i }}{% endfor %}', talk)).toBe('2 5 01');
  });
});

describe('encodeChat', () => {
  it('has one BOS, whoever writes it', async () => {
    const tokenizer = await Tokenizer.fromGguf(byteVocabulary());
    expect([...(await encodeChat(tokenizer, 'hello'))]).toEqual([274, 259]);
    expect([...(await encodeChat(tokenizer, '<|begin|>hello'))]).toEqual([274, 259]);
    const bare = await Tokenizer.fromGguf({ ...byteVocabulary(), addBos: false });
    expect([...(await encodeChat(bare, 'hello'))]).toEqual([259]);
  });
});
