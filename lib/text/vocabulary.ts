/**
 * vocabulary: the way from token ids back to bytes. One token is a piece of UTF-8 that need not end at a character border.
 */

/** What a token's text means. */
export const enum TokenKind {
  /** Ordinary text in the vocabulary's spelling. */
  kText = 0,
  /** A marker such as BOS or the end of a turn; left out when special tokens are skipped. */
  kSpecial = 1,
  /** Text taken literally, without the vocabulary's spelling. */
  kVerbatim = 2,
  /** One byte, written `<0x0A>`. */
  kByte = 3,
  /** A hole in the ids or an unused token: decodes to nothing. */
  kEmpty = 4,
}

/** How ordinary tokens are spelled: `bytes` is GPT-2's alphabet of 256 letters, `words` is SentencePiece's U+2581 for a space. */
export type Spelling = 'bytes' | 'words';

export const kWordMark = '\u2581';

/** Tokens that end a generation in whatever vocabulary they occur. */
export const kEndTexts: ReadonlySet<string> = new Set(
  (
    '<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] ' +
    '<|end_of_text|> <end_of_utterance> <eos> <\uff5cend\u2581of\u2581sentence\uff5c>'
  ).split(' '),
);

const kNothing = new Uint8Array(0);
const utf8 = new TextEncoder();

// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 onwards in order.
function isPlainByte(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/** The letter of GPT-2's alphabet for every byte. */
export function byteAlphabet(): string[] {
  let extra = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPlainByte(byte) ? byte : 0x100 + extra++));
}

const kByteOfLetter: ReadonlyMap<string, number> = new Map(byteAlphabet().map((letter, byte) => [letter, byte]));

/** Undefined unless `text` has the form `<0x0A>`. */
export function byteOfToken(text: string): number | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(text);
  return match === null ? undefined : Number.parseInt(match[1]!, 16);
}

/** All tokens of a tokenizer, by id. */
export class Vocabulary {
  /** Number of ids, holes included. */
  readonly size: number;
  /** One space at the very start of a decoded text belongs to the spelling, not to the text. */
  readonly stripsLeadingSpace: boolean;
  readonly #texts: readonly (string | undefined)[];
  readonly #kinds: Uint8Array;
  readonly #spelling: Spelling;

  constructor(texts: readonly (string | undefined)[], kinds: Uint8Array, spelling: Spelling, stripsLeadingSpace: boolean) {
    this.size = texts.length;
    this.stripsLeadingSpace = stripsLeadingSpace;
    this.#texts = texts;
    this.#kinds = kinds;
    this.#spelling = spelling;
  }

  /** The token as the tokenizer file spells it; undefined for an unknown id. */
  textOf(id: number): string | undefined {
    return this.#texts[id];
  }

  /** Unknown ids are `kEmpty`. */
  kindOf(id: number): TokenKind {
    return this.#texts[id] === undefined ? TokenKind.kEmpty : (this.#kinds[id] as TokenKind);
  }

  /** The UTF-8 bytes of one token; empty for unknown ids and, with `skipSpecial`, for special tokens. */
  bytesOf(id: number, skipSpecial: boolean): Uint8Array {
    const text = this.#texts[id];
    if (text === undefined) return kNothing;
    switch (this.#kinds[id] as TokenKind) {
      case TokenKind.kEmpty:
        return kNothing;
      case TokenKind.kSpecial:
        return skipSpecial ? kNothing : utf8.encode(text);
      case TokenKind.kVerbatim:
        return utf8.encode(text);
      case TokenKind.kByte:
        return Uint8Array.of(byteOfToken(text) ?? 0);
      default:
        return this.#spelling === 'bytes' ? spelledBytes(text) : utf8.encode(text.replaceAll(kWordMark, ' '));
    }
  }
}

// A token with a letter outside the alphabet is taken literally, as Hugging Face's decoder does.
function spelledBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const byte = kByteOfLetter.get(text[i]!);
    if (byte === undefined) return utf8.encode(text);
    bytes[i] = byte;
  }
  return bytes;
}
