/**
 * encoder: what Tokenizer and encodeSegments need of a tokenizer, whichever file it came from.
 */
import type { Encoding, Tokenizer as NativeTokenizer } from 'tokenizers';

export interface EncodeMode {
  /** Special tokens written in the text become tokens instead of plain text. */
  readonly parseSpecial: boolean;
  /** The text continues another one, so it gets no leading space of its own. */
  readonly continues: boolean;
}

/**
 * Where a text may be cut without changing its ids.
 * - `merges`: the whole text is one sequence of merges; a cut between two tokens holds if these two tokens alone stay apart.
 * - `words`: the pre-tokenizer always splits between the characters for which `isBorder` holds.
 * - `none`: nothing is known; the text is encoded in one piece.
 */
export type Borders =
  { readonly kind: 'merges' } | { readonly kind: 'words'; readonly isBorder: (before: string, after: string) => boolean } | { readonly kind: 'none' };

export interface Encoder {
  /** Ids of `text`, without BOS and EOS. Runs off the main thread. */
  encode(text: string, mode: EncodeMode): Promise<Int32Array>;
  bordersOf(parseSpecial: boolean): Borders;
  /** Texts that are cut out as tokens before anything else. */
  parsedTexts(parseSpecial: boolean): readonly string[];
}

/** Ids of `text` from the native tokenizer. */
export async function nativeIds(native: NativeTokenizer, text: string): Promise<number[]> {
  if (text === '') return [];
  // The declared return type is right, but older declarations of `encode` return unknown; the annotation keeps both sound.
  const encoding: Encoding = await native.encode(text, null, { addSpecialTokens: false });
  return encoding.getIds();
}
