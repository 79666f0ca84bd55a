/**
 * gguf_tokenizer: a tokenizer out of GGUF metadata. The vocabulary becomes a Hugging Face tokenizer.json of a bare BPE model; what GGUF does
 * around it (special tokens in the text, SentencePiece's leading space) stays outside, in gguf_encoder.ts.
 */
import { BanyanError } from '../errors.js';
import { preTokenizerNames, preTokenizerOf } from './pretokenizer.js';
import { TokenKind, Vocabulary, byteOfToken, kEndTexts, kWordMark } from './vocabulary.js';

/** The `tokenizer.ggml.*` keys of a GGUF file, as the native reader delivers them. */
export interface GgufTokenizerData {
  /** `tokenizer.ggml.model`: `llama` (SentencePiece BPE) or `gpt2` (byte-level BPE). */
  model: string;
  /** `tokenizer.ggml.pre`; default `default`. */
  pre?: string | undefined;
  tokens: readonly string[];
  /** Required by `llama`, one per token; missing scores are 0. */
  scores?: Float32Array | undefined;
  /** 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; missing types are 1. */
  tokenTypes?: Int32Array | undefined;
  /** Required by `gpt2`: `left right`, best first. */
  merges?: readonly string[] | undefined;
  bosId?: number | undefined;
  eosId?: number | undefined;
  unkId?: number | undefined;
  padId?: number | undefined;
  eotId?: number | undefined;
  addBos?: boolean | undefined;
  addEos?: boolean | undefined;
  addSpacePrefix?: boolean | undefined;
  chatTemplate?: string | undefined;
}

/** A GGUF tokenizer, read and checked. */
export interface GgufTokenizer {
  readonly kind: 'spm' | 'bpe';
  readonly vocabulary: Vocabulary;
  /** tokenizer.json of the bare model. Ids from `vocabulary.size` on are pieces that merges pass through; see `substitutes`. */
  readonly json: string;
  /** What stands for the ids from `vocabulary.size` on. */
  readonly substitutes: readonly (readonly number[])[];
  /** True when merges by rank cannot say what merges by score mean, so that spm.ts has to be used. */
  readonly needsScores: boolean;
  readonly ids: ReadonlyMap<string, number>;
  readonly scores: Float32Array;
  /** Patterns of the pre-tokenizer, in order; empty for `spm`. */
  readonly patterns: readonly string[];
  /** Ids whose text is a token wherever it occurs, longest text first. */
  readonly userDefined: readonly number[];
  /** Ids whose text is a token only where the caller asks for it, user-defined ones included, longest text first. */
  readonly parsable: readonly number[];
  readonly addSpacePrefix: boolean;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unkId: number | undefined;
  readonly padId: number | undefined;
  /** Every id that ends a generation. */
  readonly eosIds: readonly number[];
}

const enum GgufType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
}

// Tokens of the fill-in-the-middle task; control tokens too.
const kInfillTexts: ReadonlySet<string> = new Set(
  (
    '<|fim_prefix|> <fim-prefix> <fim_prefix> <PRE> \u2581<PRE> <|fim_suffix|> <fim-suffix> <fim_suffix> <SUF> \u2581<SUF> <|fim_middle|> <fim-middle> ' +
    '<fim_middle> <MID> \u2581<MID> <|fim_pad|> <fim-pad> <fim_pad> <PAD> <|file_sep|>'
  ).split(' '),
);

/**
 * Reads and checks GGUF tokenizer metadata.
 * @throws BanyanError BANYAN_UNSUPPORTED_TOKENIZER for another `model` or an unknown `pre`, BANYAN_BAD_TOKENIZER for contradictory data.
 */
export function readGgufTokenizer(data: GgufTokenizerData): GgufTokenizer {
  if (data.model !== 'llama' && data.model !== 'gpt2') {
    throw new BanyanError('BANYAN_UNSUPPORTED_TOKENIZER', `The tokenizer model "${data.model}" is not supported; known models are llama and gpt2`);
  }
  const isSpm = data.model === 'llama';
  const n = data.tokens.length;
  if (n === 0) throw bad('the vocabulary is empty');
  if (data.scores !== undefined && data.scores.length < n) throw bad(`${data.scores.length} scores for ${n} tokens`);
  if (data.tokenTypes !== undefined && data.tokenTypes.length < n) throw bad(`${data.tokenTypes.length} token types for ${n} tokens`);
  const preName = data.pre === undefined || data.pre === '' ? 'default' : data.pre;
  const pre = preTokenizerOf(preName);
  if (!isSpm && pre === undefined) {
    throw new BanyanError(
      'BANYAN_UNSUPPORTED_TOKENIZER',
      `The pre-tokenizer "${preName}" is not known; known names are ${preTokenizerNames().join(', ')}`,
    );
  }

  const texts = data.tokens.map((text, id) => (text === '' ? `[EMPTY_${id}]` : text));
  const ids = new Map<string, number>();
  texts.forEach((text, id) => void (ids.has(text) || ids.set(text, id)));
  const types = typesOf(texts, data.tokenTypes);
  const idIn = (id: number | undefined): number | undefined => (id !== undefined && Number.isInteger(id) && id >= 0 && id < n ? id : undefined);
  const bosId = idIn(data.bosId) ?? (isSpm ? idIn(1) : undefined);
  const eosId = idIn(data.eosId) ?? (isSpm ? idIn(2) : undefined);
  const unkId = idIn(data.unkId) ?? (isSpm ? idIn(0) : undefined);

  const kinds = new Uint8Array(n);
  for (let id = 0; id < n; id++) kinds[id] = kindOf(types[id]!, texts[id]!);
  const addSpacePrefix = data.addSpacePrefix ?? isSpm;
  const vocabulary = new Vocabulary(texts, kinds, isSpm ? 'words' : 'bytes', isSpm && addSpacePrefix);

  const scores = new Float32Array(n);
  if (data.scores !== undefined) for (let id = 0; id < n; id++) scores[id] = Number.isNaN(data.scores[id]!) ? -Infinity : data.scores[id]!;
  const isUserDefined = (id: number): boolean => types[id] === GgufType.kUserDefined;
  const isMarker = (id: number): boolean => types[id] === GgufType.kUnknown || types[id] === GgufType.kControl;
  const longestFirst = (a: number, b: number): number => texts[b]!.length - texts[a]!.length || a - b;
  const all = [...texts.keys()];

  const extra: string[] = [];
  let merges: [string, string][];
  let needsScores = false;
  if (isSpm) ({ merges, needsScores } = mergesFromScores(ids, scores, isUserDefined));
  else merges = mergesFromList(data.merges, ids, extra, n);
  const patterns = isSpm ? [] : pre!.patterns;
  const endIds = all.filter((id) => isMarker(id) && kEndTexts.has(texts[id]!));
  const eosIds = [...new Set([eosId, idIn(data.eotId), ...endIds].filter((id) => id !== undefined))];
  return {
    kind: isSpm ? 'spm' : 'bpe',
    vocabulary,
    json: jsonOf(isSpm, ids, extra, n, merges, patterns, !isSpm && pre!.ignoreMerges, unkId === undefined ? undefined : texts[unkId]),
    substitutes: extra.map((text) => Array.from(text, (letter) => (letter < '\x80' ? ids.get(letter) : undefined)).filter((id) => id !== undefined)),
    needsScores,
    ids,
    scores,
    patterns,
    userDefined: all.filter(isUserDefined).sort(longestFirst),
    parsable: all.filter((id) => isUserDefined(id) || isMarker(id)).sort(longestFirst),
    addSpacePrefix,
    addBos: bosId !== undefined && (data.addBos ?? (isSpm || pre!.addBos)),
    addEos: eosId !== undefined && (data.addEos ?? false),
    bosId,
    eosId,
    unkId,
    padId: idIn(data.padId),
    eosIds,
  };
}

function bad(what: string): BanyanError {
  return new BanyanError('BANYAN_BAD_TOKENIZER', `The tokenizer of the GGUF file is malformed: ${what}`);
}

function typesOf(texts: readonly string[], given: Int32Array | undefined): Int32Array {
  const types = given === undefined ? new Int32Array(texts.length).fill(1) : given.slice(0, texts.length);
  texts.forEach((text, id) => {
    // Some of these, such as </s>, are ordinary text in other vocabularies; those in bars never are.
    const isMarker = kEndTexts.has(text) || kInfillTexts.has(text);
    if (isMarker && (types[id] !== GgufType.kNormal || /^<[|\uff5c]/.test(text))) types[id] = GgufType.kControl;
  });
  return types;
}

function kindOf(type: number, text: string): TokenKind {
  switch (type) {
    case GgufType.kUnknown:
    case GgufType.kControl:
      return TokenKind.kSpecial;
    case GgufType.kUserDefined:
      return TokenKind.kVerbatim;
    case GgufType.kUnused:
      return TokenKind.kEmpty;
    case GgufType.kByte:
      return byteOfToken(text) === undefined ? TokenKind.kText : TokenKind.kByte;
    default:
      return TokenKind.kText;
  }
}

// Byte-level merges: a repeated pair keeps its first rank, and pieces that are no tokens get ids of their own behind the vocabulary.
function mergesFromList(list: readonly string[] | undefined, ids: ReadonlyMap<string, number>, extra: string[], n: number): [string, string][] {
  if (list === undefined) throw bad('a byte-level vocabulary without merges');
  const known = new Set<string>();
  const seen = new Set<string>();
  const merges: [string, string][] = [];
  const need = (text: string): void => {
    if (ids.has(text) || known.has(text)) return;
    known.add(text);
    extra.push(text);
    if (extra.length > n + list.length) throw bad('more merges than tokens');
  };
  for (const line of list) {
    const space = line.indexOf(' ', 1);
    if (space < 0 || space === line.length - 1 || seen.has(line)) continue;
    seen.add(line);
    const left = line.slice(0, space);
    const right = line.slice(space + 1);
    need(left);
    need(right);
    need(left + right);
    merges.push([left, right]);
  }
  return merges;
}

/**
 * SentencePiece merges as ranks: every split of a token into two tokens, best score first. Of equal scores the leftmost pair in the text wins, which
 * ranks say as follows. Two splits of one token compete for a character only as (u+v, w) left of (v, w+...): the one with the longer left half is the
 * left one, so longer left halves rank first. The same order makes runs of one character grow from the left. What it cannot say sets `needsScores`:
 * equal scores of other tokens, and tokens of three or more repetitions that are no run.
 */
function mergesFromScores(
  ids: ReadonlyMap<string, number>,
  scores: Float32Array,
  isUserDefined: (id: number) => boolean,
): { merges: [string, string][]; needsScores: boolean } {
  const merges: { score: number; text: string; at: number }[] = [];
  // The character whose runs have a score; undefined where the score belongs to another token.
  const owners = new Map<number, string | undefined>();
  let needsScores = false;
  for (const [text, id] of ids) {
    // A user-defined token is cut out of the text before merging, so it never comes up here.
    if (isUserDefined(id)) continue;
    const score = scores[id]!;
    const n_merges = merges.length;
    let isWhole = true;
    let n_characters = 0;
    for (let at = 0; at < text.length; n_characters++) {
      const size = text.codePointAt(at)! > 0xffff ? 2 : 1;
      isWhole &&= ids.has(text.slice(at, at + size));
      at += size;
      if (at < text.length && ids.has(text.slice(0, at)) && ids.has(text.slice(at))) merges.push({ score, text, at });
    }
    // A character outside the vocabulary that still takes part in a merge.
    if (!isWhole && n_characters > 1) needsScores ||= joinsStranger(text, ids);
    if (merges.length === n_merges) continue;
    const run = text === text[0]!.repeat(text.length) ? text[0] : undefined;
    if (owners.has(score) && (run === undefined || owners.get(score) !== run)) needsScores = true;
    owners.set(score, run);
    needsScores ||= run === undefined && isRepetition(text);
  }
  merges.sort((a, b) => (a.score === b.score ? b.at - a.at : b.score - a.score));
  return { merges: merges.map(({ text, at }): [string, string] => [text.slice(0, at), text.slice(at)]), needsScores };
}

// True if the text begins again before its middle, as "ababab" does.
function isRepetition(text: string): boolean {
  for (let period = 1; period * 2 < text.length; period++) if (text.startsWith(text.slice(period))) return true;
  return false;
}

// True when `text` can come from a lone character that is no token and a neighbour.
function joinsStranger(text: string, ids: ReadonlyMap<string, number>): boolean {
  const characters = Array.from(text);
  const joins = (lone: string, rest: readonly string[]): boolean => !ids.has(lone) && (rest.length === 1 || ids.has(rest.join('')));
  return joins(characters[0]!, characters.slice(1)) || joins(characters.at(-1)!, characters.slice(0, -1));
}

function jsonOf(
  isSpm: boolean,
  ids: ReadonlyMap<string, number>,
  extra: readonly string[],
  n: number,
  merges: readonly [string, string][],
  patterns: readonly string[],
  ignoreMerges: boolean,
  unknown: string | undefined,
): string {
  const rows: string[] = [];
  for (const [text, id] of ids) rows.push(`${JSON.stringify(text)}:${id}`);
  extra.forEach((text, i) => rows.push(`${JSON.stringify(text)}:${n + i}`));
  const splits = patterns.map((Regex) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  const preTokenizer = isSpm ? null : { type: 'Sequence', pretokenizers: [...splits, byteLevel] };
  const model =
    `{"type":"BPE","dropout":null,"unk_token":${isSpm && unknown !== undefined ? JSON.stringify(unknown) : 'null'},"continuing_subword_prefix":null,` +
    `"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":${isSpm},"ignore_merges":${ignoreMerges},"vocab":{${rows.join(',')}},"merges":${JSON.stringify(merges)}}`;
  return (
    `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":${JSON.stringify(preTokenizer)},` +
    `"post_processor":null,"decoder":null,"model":${model}}`
  );
}

/** `text` in SentencePiece's spelling. */
export function spellWords(text: string): string {
  return text.replaceAll(' ', kWordMark);
}
