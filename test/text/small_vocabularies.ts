/**
 * small_vocabularies: vocabularies small enough to check by hand, as GGUF metadata and as tokenizer.json.
 */
import type { GgufTokenizerData } from '../../lib/text/gguf_tokenizer.js';
import { byteAlphabet } from '../../lib/text/vocabulary.js';

const kNormal = 1;
const kUnknown = 2;
const kControl = 3;
const kUserDefined = 4;
const kByte = 6;

const kMerges = [
  'h e',
  'l l',
  'he ll',
  'hell o',
  'Ġ w',
  'o r',
  'Ġw or',
  'l d',
  'Ġwor ld',
  'Ġ Ġ',
  'Ċ Ċ',
  'i n',
  'in g',
  'Ã ©',
  'a b',
  'ab ab',
  '1 2',
  '12 3',
];

/** 256 bytes, then the merges in order (256..273), then <|begin|> 274, <|end_of_text|> 275, <tool> 276 (user defined). */
export function byteVocabulary(pre = 'llama-bpe'): GgufTokenizerData {
  const words = kMerges.map((merge) => merge.replace(' ', ''));
  const tokens = [...byteAlphabet(), ...words, '<|begin|>', '<|end_of_text|>', '<tool>'];
  const tokenTypes = new Int32Array(tokens.length).fill(kNormal);
  tokenTypes.set([kControl, kControl, kUserDefined], tokens.length - 3);
  return { model: 'gpt2', pre, tokens, tokenTypes, merges: kMerges, bosId: 274, eosId: 275 };
}

const kPieces: [string, number][] = [
  ['▁', -100], ['h', -101], ['e', -102], ['l', -103], ['o', -104], ['w', -105], ['r', -106], ['d', -107], ['a', -108], ['b', -109], ['\n', -110],
  ['he', -1], ['ll', -2], ['hell', -3], ['hello', -4], ['▁w', -5], ['or', -6], ['▁wor', -7], ['ld', -8], ['▁world', -9], ['▁▁', -10], ['▁hello', -11],
  ['aba', -12], ['ab', -13], ['ba', -14], ['▁▁▁▁', -15],
]; // prettier-ignore

/** <unk> 0, <s> 1, </s> 2, the bytes 3..258, the pieces from 259, then <tool> (user defined). */
export function wordVocabulary(): GgufTokenizerData {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...kPieces.map(([piece]) => piece), '<tool>'];
  const scores = new Float32Array(tokens.length);
  kPieces.forEach(([, score], i) => (scores[259 + i] = score));
  const tokenTypes = new Int32Array(tokens.length).fill(kNormal);
  tokenTypes.set([kUnknown, kControl, kControl]);
  tokenTypes.fill(kByte, 3, 259);
  tokenTypes[tokens.length - 1] = kUserDefined;
  return { model: 'llama', tokens, scores, tokenTypes, bosId: 1, eosId: 2, unkId: 0 };
}

/** The id of a piece of `wordVocabulary`. */
export const pieceId = (piece: string): number => wordVocabulary().tokens.indexOf(piece);

type Json = Record<string, unknown>;

const kLlama3Split =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** `byteVocabulary` as a tokenizer.json in the manner of Llama-3; `extra` overrides parts of it. */
export function byteJson(extra: Json = {}): string {
  const { tokens, merges } = byteVocabulary();
  const n_plain = tokens.length - 3;
  const added = (id: number, special: boolean): Json => ({
    id,
    content: tokens[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special,
  });
  return JSON.stringify({
    version: '1.0',
    truncation: { direction: 'Right', max_length: 4, strategy: 'LongestFirst', stride: 0 },
    padding: null,
    added_tokens: [added(n_plain, true), added(n_plain + 1, true), added(n_plain + 2, false)],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: kLlama3Split }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<|begin|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<|begin|>': { id: '<|begin|>', ids: [n_plain], tokens: ['<|begin|>'] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false,
      ignore_merges: true, vocab: Object.fromEntries(tokens.slice(0, n_plain).map((token, id) => [token, id])), merges,
    },
    ...extra,
  }); // prettier-ignore
}

/** `wordVocabulary` as a tokenizer.json in the manner of Llama-2: `prepend` with a normalizer, `metaspace` with a pre-tokenizer. */
export function wordJson(manner: 'prepend' | 'metaspace'): string {
  const { tokens } = wordVocabulary();
  const vocab = Object.fromEntries(tokens.slice(0, -1).map((token, id) => [token, id]));
  const ranked = kPieces.filter(([piece]) => Array.from(piece).length > 1).sort((a, b) => b[1] - a[1]);
  const merges = ranked.flatMap(([piece]) => {
    const splits = Array.from({ length: piece.length - 1 }, (_, i) => [piece.slice(0, piece.length - 1 - i), piece.slice(piece.length - 1 - i)]);
    return splits.filter(([left, right]) => left! in vocab && right! in vocab);
  });
  const added = (id: number, special: boolean): Json => ({
    id,
    content: tokens[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special,
  });
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const isPrepend = manner === 'prepend';
  return JSON.stringify({
    version: '1.0', truncation: null, padding: null,
    added_tokens: [added(0, true), added(1, true), added(2, true)],
    normalizer: isPrepend ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, space] } : null,
    pre_tokenizer: isPrepend ? null : { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }],
    },
    model: {
      type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: true, byte_fallback: true,
      ignore_merges: false, vocab, merges,
    },
  }); // prettier-ignore
}

/** A generator of reproducible whole numbers below `n`. */
export function random(seed: number): (n: number) => number {
  let state = seed >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}
