/**
 * shared_vectors: vocabularies, their test vectors and a long text from the folder `shared` beside the repository. They are not part of it: tests
 * that need them are skipped where they are missing.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Tokenizer } from '../../lib/text/tokenizer.js';
import { readGgufTokenizerData } from './gguf_reader.js';

const kRoot = path.resolve(process.cwd(), '..', 'shared');
const kTokenizers = path.join(kRoot, 'tokenizers');
const kBooks = path.join(kRoot, 'data', 'books-valid.jsonl.xz');

const unpack = (file: string): Buffer => execFileSync('xz', ['-dc', file], { maxBuffer: 1 << 28 });

function hasXz(): boolean {
  try {
    execFileSync('xz', ['--version']);
    return true;
  } catch {
    return false;
  }
}

export const kVocabularies = ['llama-spm', 'llama-bpe', 'qwen2', 'gpt-2'] as const;

/** Why the vectors cannot be used; undefined if they can. */
export const whyNoVectors = !existsSync(kTokenizers) ? `${kTokenizers} is missing` : !hasXz() ? 'the program xz is missing' : undefined;
export const whyNoBook = whyNoVectors ?? (existsSync(kBooks) ? undefined : `${kBooks} is missing`);

const loaded = new Map<string, Promise<Tokenizer>>();

export function vocabulary(name: string): Promise<Tokenizer> {
  let tokenizer = loaded.get(name);
  if (tokenizer === undefined) {
    tokenizer = Tokenizer.fromGguf(readGgufTokenizerData(unpack(path.join(kTokenizers, `ggml-vocab-${name}.gguf.xz`))));
    loaded.set(name, tokenizer);
  }
  return tokenizer;
}

export interface VectorCase {
  text: string;
  ids: number[];
}

export function vectorsOf(name: string): VectorCase[] {
  const read = (kind: string): string => readFileSync(path.join(kTokenizers, `ggml-vocab-${name}.gguf.${kind}`), 'utf8');
  const texts = read('inp').split('\n__ggml_vocab_test__\n');
  const lines = read('out').split('\n');
  return texts.map((text, i) => ({ text, ids: (lines[i] ?? '').split(' ').filter(Boolean).map(Number) }));
}

/** The first `n_chars` of prose of a real book collection. */
export function book(n_chars: number): string {
  let text = '';
  for (const line of unpack(kBooks).toString('utf8').split('\n')) {
    if (line === '' || text.length >= n_chars) break;
    const row = JSON.parse(line) as { text?: string };
    text += `${row.text ?? ''}\n\n`;
  }
  return text.slice(0, n_chars);
}
