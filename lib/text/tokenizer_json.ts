/**
 * tokenizer_json: reads the parts of a Hugging Face tokenizer.json that Banyan needs to know about, checking every one, and derives the variants
 * that encode: with or without special tokens, with or without the space in front.
 */
import { BanyanError } from '../errors.js';
import type { Borders } from './encoder.js';
import { kByteLevelPattern } from './pretokenizer.js';
import { wordBorders } from './split.js';
import { TokenKind, Vocabulary, byteOfToken, type Spelling } from './vocabulary.js';

type Fields = Record<string, unknown>;

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Special tokens are parsed only where the caller asks for it. */
  readonly isSpecial: boolean;
}

/** A tokenizer.json, parsed and checked as far as Banyan reads it; the native library checks the rest. */
export class TokenizerJson {
  readonly added: readonly AddedToken[];
  readonly vocabulary: Vocabulary;
  /** True if a text gets a leading space, or something like it, that a continued text must not get. */
  readonly hasPrefix: boolean;
  readonly #root: Fields;
  readonly #model: Fields;

  /** @throws BanyanError BANYAN_BAD_TOKENIZER or BANYAN_UNSUPPORTED_TOKENIZER. */
  constructor(text: string) {
    this.#root = fieldsOf(parse(text), 'the file');
    this.#model = fieldsOf(this.#root['model'], 'model');
    const type = this.#model['type'] ?? (Array.isArray(this.#model['merges']) ? 'BPE' : undefined);
    if (type !== 'BPE' && type !== 'Unigram') {
      throw new BanyanError(
        'BANYAN_UNSUPPORTED_TOKENIZER',
        `The tokenizer model "${String(type)}" is not supported; known models are BPE and Unigram`,
      );
    }
    this.added = readAdded(this.#root['added_tokens']);
    const steps = decoderSteps(this.#root['decoder']);
    const texts = readTexts(this.#model['vocab'], this.added);
    const kinds = new Uint8Array(texts.length);
    const hasByteFallback = steps.some((step) => step['type'] === 'ByteFallback');
    texts.forEach((token, id) => {
      if (hasByteFallback && token !== undefined && byteOfToken(token) !== undefined) kinds[id] = TokenKind.kByte;
    });
    for (const { id, isSpecial } of this.added) kinds[id] = isSpecial ? TokenKind.kSpecial : TokenKind.kVerbatim;
    this.vocabulary = new Vocabulary(texts, kinds, spellingOf(steps), steps.some(stripsSpace));
    this.hasPrefix = JSON.stringify(this.#steps(true)) !== JSON.stringify(this.#steps(false));
  }

  /** The tokenizer.json of one variant. */
  variant(parseSpecial: boolean, continues: boolean): string {
    const [normalizer, preTokenizer] = this.#steps(continues);
    const root: Fields = { ...this.#root, truncation: null, padding: null, normalizer, pre_tokenizer: preTokenizer };
    if (!parseSpecial) {
      // Unparsed tokens stay in the vocabulary, so that the ids of the others stay what they are.
      root['added_tokens'] = (this.#root['added_tokens'] as Fields[] | undefined)?.filter((token) => token['special'] !== true) ?? [];
      if (!Array.isArray(this.#model['vocab'])) {
        const rows = Object.entries(this.#model['vocab'] as Record<string, number>);
        const known = new Set(rows.map(([text]) => text));
        for (const { content, id } of this.added) if (!known.has(content)) rows.push([content, id]);
        root['model'] = { ...this.#model, vocab: Object.fromEntries(rows) };
      }
    }
    return JSON.stringify(root);
  }

  /** What makes two tokenizers the same: everything that decides about ids. */
  identity(): string {
    const { added_tokens, normalizer, pre_tokenizer, post_processor } = this.#root;
    return JSON.stringify([this.#model, added_tokens, normalizer, pre_tokenizer, post_processor]);
  }

  bordersOf(parseSpecial: boolean): Borders {
    const parsesAny = this.added.some((token) => parseSpecial || !token.isSpecial);
    // After a parsed token the text would want its leading space again, which the variant for continued texts has not.
    if (this.#model['type'] === 'Unigram' || typeof this.#model['dropout'] === 'number' || (this.hasPrefix && parsesAny)) return { kind: 'none' };
    const normalizers = flatten(this.#root['normalizer'], 'normalizers');
    const preTokenizers = flatten(this.#root['pre_tokenizer'], 'pretokenizers');
    const isSpelling = (step: Fields): boolean => step['type'] === 'Prepend' || isSpaceReplacement(step);
    const isWhole = (step: Fields): boolean => step['type'] === 'Metaspace' && step['split'] === false;
    const isPure = ['continuing_subword_prefix', 'end_of_word_suffix', 'ignore_merges'].every((name) => !this.#model[name]);
    if (preTokenizers.every(isWhole) && normalizers.every(isSpelling)) return { kind: isPure ? 'merges' : 'none' };
    const isCanonical = (step: Fields): boolean => step['type'] === 'NFC';
    const isUnicode = (step: Fields): boolean => ['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase'].includes(String(step['type']));
    if (!normalizers.every(isUnicode)) return { kind: 'none' };
    return wordBorders(preTokenizers.map(patternOf), normalizers.every(isCanonical) ? 'any' : 'ascii');
  }

  // Normalizer and pre-tokenizer; `continues` takes away what they put in front of a text.
  #steps(continues: boolean): [unknown, unknown] {
    const { normalizer, pre_tokenizer: preTokenizer } = this.#root;
    return continues ? [withoutPrefix(normalizer), withoutPrefix(preTokenizer)] : [normalizer ?? null, preTokenizer ?? null];
  }
}

function malformed(what: string, cause?: unknown): BanyanError {
  return new BanyanError('BANYAN_BAD_TOKENIZER', `The tokenizer.json is malformed: ${what}`, cause === undefined ? {} : { cause });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw malformed(error instanceof Error ? error.message : 'not JSON', error);
  }
}

function fieldsOf(value: unknown, name: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${name} is not an object`);
  return value as Fields;
}

function idOf(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= 1 << 24) throw malformed(`${name} has no sound id`);
  return value;
}

function readAdded(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed('added_tokens is not an array');
  return value.map((entry) => {
    const token = fieldsOf(entry, 'an added token');
    if (typeof token['content'] !== 'string') throw malformed('an added token has no content');
    return { id: idOf(token['id'], 'an added token'), content: token['content'], isSpecial: token['special'] === true };
  });
}

function readTexts(vocab: unknown, added: readonly AddedToken[]): (string | undefined)[] {
  const rows: [string, number][] = Array.isArray(vocab)
    ? vocab.map((row, id) => {
        if (!Array.isArray(row) || typeof row[0] !== 'string') throw malformed('a row of the vocabulary is not a token and its score');
        return [row[0], id];
      })
    : Object.entries(fieldsOf(vocab, 'the vocabulary')).map(([text, id]) => [text, idOf(id, 'a token')]);
  for (const { content, id } of added) rows.push([content, id]);
  const size = rows.reduce((most, [, id]) => Math.max(most, id + 1), 0);
  if (size > 16 * rows.length + 65536) throw malformed('the ids are too sparse');
  const texts = new Array<string | undefined>(size).fill(undefined);
  for (const [text, id] of rows) texts[id] = text;
  return texts;
}

// A step, or the steps of a sequence, in order.
function flatten(step: unknown, name: string): Fields[] {
  if (step === undefined || step === null) return [];
  const fields = fieldsOf(step, 'a step');
  if (fields['type'] !== 'Sequence') return [fields];
  const children = fields[name];
  if (!Array.isArray(children)) throw malformed(`a sequence has no ${name}`);
  return children.flatMap((child) => flatten(child, name));
}

const kDecoderTypes: ReadonlySet<unknown> = new Set(['ByteLevel', 'Metaspace', 'Replace', 'ByteFallback', 'Fuse', 'Strip']);

function decoderSteps(decoder: unknown): Fields[] {
  const steps = flatten(decoder, 'decoders');
  const unknown = steps.find((step) => !kDecoderTypes.has(step['type']) || (step['type'] === 'Replace' && !isSpaceRestoration(step)));
  if (steps.length > 0 && unknown === undefined) return steps;
  const name = unknown === undefined ? 'none' : String(unknown['type']);
  throw new BanyanError(
    'BANYAN_UNSUPPORTED_TOKENIZER',
    `The tokenizer's decoder "${name}" is not supported; known ones are those of byte-level and SentencePiece vocabularies`,
  );
}

function spellingOf(decoders: readonly Fields[]): Spelling {
  return decoders.some((step) => step['type'] === 'ByteLevel') ? 'bytes' : 'words';
}

function stripsSpace(step: Fields): boolean {
  if (step['type'] === 'Strip') return step['content'] === ' ' && step['start'] === 1;
  if (step['type'] !== 'Metaspace') return false;
  return step['prepend_scheme'] === undefined ? step['add_prefix_space'] !== false : step['prepend_scheme'] !== 'never';
}

function replaces(step: Fields, from: string, to: string): boolean {
  return step['type'] === 'Replace' && (step['pattern'] as Fields | null)?.['String'] === from && step['content'] === to;
}
const isSpaceReplacement = (step: Fields): boolean => replaces(step, ' ', '\u2581');
const isSpaceRestoration = (step: Fields): boolean => replaces(step, '\u2581', ' ');

// The pattern that splits like a pre-tokenizer; undefined where none is known to.
function patternOf(step: Fields): string | undefined {
  switch (step['type']) {
    case 'ByteLevel':
      return step['use_regex'] === false ? '' : kByteLevelPattern;
    case 'Digits':
      return step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+';
    case 'Split': {
      const regex = (step['pattern'] as Fields | null)?.['Regex'];
      const isolates = step['behavior'] === 'Isolated' || (step['behavior'] === 'Removed' && step['invert'] === true);
      return typeof regex === 'string' && isolates ? regex : undefined;
    }
    default:
      return undefined;
  }
}

function withoutPrefix(step: unknown): unknown {
  if (typeof step !== 'object' || step === null) return null;
  const fields = step as Fields;
  switch (fields['type']) {
    case 'Sequence': {
      const name = Array.isArray(fields['normalizers']) ? 'normalizers' : 'pretokenizers';
      const children = Array.isArray(fields[name]) ? (fields[name] as unknown[]) : [];
      return { ...fields, [name]: children.map(withoutPrefix).filter((child) => child !== null) };
    }
    case 'Prepend':
      return null;
    case 'Metaspace': {
      const { add_prefix_space: _old, ...rest } = fields;
      return { ...rest, prepend_scheme: 'never' };
    }
    case 'ByteLevel':
      return { ...fields, add_prefix_space: false };
    default:
      return step;
  }
}
