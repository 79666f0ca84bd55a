/** prompt: from a conversation to local ids, and which of them selects what is read. */
import type { Message } from '../types/public.js';
import { raceAbort } from './abort.js';
import { tokenizerOf, type ModelContext } from './context.js';
import { outOfRange } from './errors.js';
import { renderChat } from './text/chat.js';

export interface LocalTokens {
  ids: Int32Array;
  /** undefined: the last. */
  queryIndex: number | undefined;
}

/**
 * The whole conversation is rendered and tokenized anew at every turn: local text is short, templates may look at all of it, and the engine
 * finds the common prefix in its cache by itself.
 */
export async function renderPrompt(
  context: ModelContext, template: string | undefined, messages: readonly Message[], queryText: string | undefined, signal: AbortSignal,
): Promise<LocalTokens> {
  const tokenizer = tokenizerOf(context);
  const text = renderChat(template, messages, { addGenerationPrompt: true, bosToken: tokenizer.bosToken, eosToken: tokenizer.eosToken });
  // A template writes the special tokens itself.
  const options = template === undefined ? { addSpecial: true, parseSpecial: false } : { addSpecial: false, parseSpecial: true };
  const ids = await raceAbort(tokenizer.encode(text, options), signal);
  if (ids.length === 0) throw outOfRange('at least one token', 'prompt', text);

  const question = queryText ?? (template === undefined ? undefined : messages.findLast((message) => message.role === 'user')?.content.trim());
  const end = question === undefined || question === '' ? -1 : text.lastIndexOf(question);
  if (question === undefined || end < 0) {
    if (queryText !== undefined) throw outOfRange('part of the prompt', 'queryText', queryText);
    return { ids, queryIndex: undefined };
  }
  // Tokens of the text up to the question's end. Its last token may be cut differently there, but its place is the same.
  const before = await raceAbort(tokenizer.encode(text.slice(0, end + question.length), options), signal);
  return { ids, queryIndex: Math.max(0, Math.min(before.length, ids.length) - 1) };
}
