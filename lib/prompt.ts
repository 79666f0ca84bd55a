/** prompt: from a conversation to local ids, and which of them selects what is read. */
import type { Message } from '../types/public.js';
import { raceAbort } from './abort.js';
import { tokenizerOf, type ModelContext } from './context.js';
import { outOfRange } from './errors.js';
import { encodeChat, renderChat } from './text/chat.js';

export interface LocalTokens {
  ids: Int32Array;
  /** undefined: the last. */
  queryIndex: number | undefined;
  /** The answer goes on where the prompt ends, so that its leading space is text; else it is a turn of its own. */
  isContinued: boolean;
}

/**
 * The whole conversation is rendered and tokenized anew at every turn: local text is short, templates may look at all of it, and the engine
 * finds the common prefix in its cache by itself.
 */
export async function renderPrompt(
  context: ModelContext,
  template: string | undefined,
  messages: readonly Message[],
  queryText: string | undefined,
  signal: AbortSignal,
): Promise<LocalTokens> {
  const isPlain = template === undefined || template === '';
  const tokenizer = tokenizerOf(context);
  const spelling = (id: number | undefined): string | undefined => (id === undefined ? undefined : tokenizer.tokenText(id));
  const text = renderChat(template, messages, { bosToken: spelling(tokenizer.bosId), eosToken: spelling(tokenizer.eosId) });
  // A template writes the special tokens itself; in plain text they are but text.
  const encode = async (part: string): Promise<Int32Array> => {
    if (!isPlain) return raceAbort(encodeChat(tokenizer, part), signal);
    const ids = await raceAbort(tokenizer.encode(part), signal);
    return tokenizer.addBos && tokenizer.bosId !== undefined ? Int32Array.from([tokenizer.bosId, ...ids]) : ids;
  };
  const ids = await encode(text);
  if (ids.length === 0) throw outOfRange('at least one token', 'prompt', text);

  const question = queryText ?? (isPlain ? undefined : messages.findLast((message) => message.role === 'user')?.content.trim());
  const end = question === undefined || question === '' ? -1 : text.lastIndexOf(question);
  if (question === undefined || end < 0) {
    if (queryText !== undefined) throw outOfRange('part of the prompt', 'queryText', queryText);
    return { ids, queryIndex: undefined, isContinued: isPlain };
  }
  // Tokens of the text up to the question's end. Its last token may be cut differently there, but its place is the same.
  const before = await encode(text.slice(0, end + question.length));
  return { ids, queryIndex: Math.max(0, Math.min(before.length, ids.length) - 1), isContinued: isPlain };
}
