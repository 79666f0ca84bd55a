/**
 * chat: messages to the prompt text of a model, through the model's own chat template in Jinja.
 */
import { Template } from '@huggingface/jinja';
import { BanyanError } from '../errors.js';
import type { Tokenizer } from './tokenizer.js';

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface ChatOptions {
  /** End with the opening of the assistant's turn; default true. */
  addGenerationPrompt?: boolean | undefined;
  /** What the template calls `bos_token`; default the empty string. */
  bosToken?: string | undefined;
  /** What the template calls `eos_token`; default the empty string. */
  eosToken?: string | undefined;
}

// Templates come with model files, so they are not trusted. A template of a megabyte or with a hundred thousand loop turns is not a chat template.
const kMostTemplateChars = 1 << 20;
const kMostRangeItems = 100_000;

// The library's own range() is unbounded and cannot be replaced from outside. The line break is swallowed with the statement, so that the template
// still begins at the beginning of a line.
const kPrelude = '{% set range = bounded_range %}\n';

const parsed = new Map<string, Template>();
const kMostParsed = 16;

/**
 * The prompt text. Without a template: the contents, separated by blank lines, in order; nothing marks the roles. A system message that the
 * template refuses is put in front of the first user message, as Llama-2 and Mistral models expect it.
 * @throws BanyanError BANYAN_BAD_TEMPLATE with the template's own message. A template can still loop without end over what it builds itself.
 */
export function renderChat(template: string | undefined, messages: readonly ChatMessage[], options: ChatOptions = {}): string {
  if (template === undefined || template === '') return plainChat(messages);
  try {
    return render(template, messages, options);
  } catch (error) {
    const folded = withoutSystem(messages);
    if (folded === undefined || !/system|alternat/i.test(messageOf(error))) throw badTemplate(error);
    try {
      return render(template, folded, options);
    } catch {
      throw badTemplate(error);
    }
  }
}

/** The ids of a rendered prompt: special tokens parsed, BOS in front where the tokenizer wants one and the template has not written it. */
export async function encodeChat(tokenizer: Tokenizer, text: string): Promise<Int32Array> {
  const ids = await tokenizer.encode(text, { parseSpecial: true });
  const { bosId } = tokenizer;
  if (!tokenizer.addBos || bosId === undefined || ids[0] === bosId) return ids;
  const framed = new Int32Array(ids.length + 1);
  framed[0] = bosId;
  framed.set(ids, 1);
  return framed;
}

function plainChat(messages: readonly ChatMessage[]): string {
  return messages.map((message) => message.content).join('\n\n');
}

function render(source: string, messages: readonly ChatMessage[], options: ChatOptions): string {
  let n_items = 0;
  const range = (start: number, stop?: number, step = 1): number[] => {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    const count = step === 0 ? NaN : Math.max(0, Math.ceil((to - from) / step));
    if (!Number.isFinite(count)) throw new Error('range() needs finite bounds and a step that is not 0');
    n_items += count;
    if (n_items > kMostRangeItems) throw new Error(`range() gave more than ${kMostRangeItems} items`);
    return Array.from({ length: count }, (_, i) => from + i * step);
  };
  return templateOf(source).render({
    messages: messages.map(({ role, content }) => ({ role, content })),
    add_generation_prompt: options.addGenerationPrompt ?? true,
    bos_token: options.bosToken ?? '',
    eos_token: options.eosToken ?? '',
    bounded_range: range,
  });
}

function templateOf(source: string): Template {
  let template = parsed.get(source);
  if (template === undefined) {
    if (source.length > kMostTemplateChars) throw new Error(`it has ${source.length} characters, more than ${kMostTemplateChars}`);
    template = new Template(kPrelude + source);
    const oldest = parsed.keys().next();
    if (parsed.size >= kMostParsed && oldest.done === false) parsed.delete(oldest.value);
    parsed.set(source, template);
  }
  return template;
}

// The messages with the system text in front of the first user message; undefined if there is no system message to fold.
function withoutSystem(messages: readonly ChatMessage[]): ChatMessage[] | undefined {
  const [first, second, ...rest] = messages;
  if (first?.role !== 'system' || second?.role !== 'user') return undefined;
  return [{ role: 'user', content: `${first.content}\n\n${second.content}` }, ...rest];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function badTemplate(error: unknown): BanyanError {
  return new BanyanError('BANYAN_BAD_TEMPLATE', `The chat template cannot be rendered: ${messageOf(error)}`, { cause: error });
}
