/** tokenizer_files: where a model's tokenizer comes from. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { NativeModel } from '../types/native.js';
import { BanyanError } from './errors.js';
import { Tokenizer, type TokenizerConfig } from './text/tokenizer.js';

export interface FoundTokenizer {
  tokenizer: Tokenizer | null;
  /** The model has one that Banyan cannot run. */
  error: BanyanError | null;
}

/** The tokenizer at `path`, or else the model's own, if it has one that can be run. Rejects with BANYAN_FILE_NOT_FOUND, BANYAN_BAD_TOKENIZER. */
export async function findTokenizer(model: string, path: string | undefined, native: NativeModel): Promise<FoundTokenizer> {
  if (path !== undefined) {
    const text = await readIfThere(path);
    if (text === null) throw new BanyanError('BANYAN_FILE_NOT_FOUND', `There is no tokenizer at ${path}`);
    return { tokenizer: await fromFile(path, text), error: null };
  }
  try {
    return { tokenizer: await ownTokenizer(model, native), error: null };
  } catch (error) {
    if (error instanceof BanyanError && error.code === 'BANYAN_UNSUPPORTED_TOKENIZER') return { tokenizer: null, error };
    throw error;
  }
}

async function ownTokenizer(model: string, native: NativeModel): Promise<Tokenizer | null> {
  const data = native.tokenizer();
  if (data !== null) return Tokenizer.fromGguf(data);
  const directory = (await stat(model)).isDirectory() ? model : dirname(model);
  const path = join(directory, 'tokenizer.json');
  const text = await readIfThere(path);
  return text === null ? null : fromFile(path, text);
}

// tokenizer_config.json (special tokens, chat template) lies beside tokenizer.json, and newer templates in a file of their own.
async function fromFile(path: string, text: string): Promise<Tokenizer> {
  const directory = dirname(path);
  const configPath = join(directory, 'tokenizer_config.json');
  const config = parseConfig(configPath, await readIfThere(configPath));
  const template = await readIfThere(join(directory, 'chat_template.jinja'));
  return Tokenizer.fromJson(text, template === null ? config : { ...config, chat_template: template });
}

function parseConfig(path: string, text: string | null): TokenizerConfig {
  if (text === null) return {};
  try {
    const config: unknown = JSON.parse(text);
    if (typeof config === 'object' && config !== null) return config;
  } catch (cause) {
    throw new BanyanError('BANYAN_BAD_TOKENIZER', `${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
  throw new BanyanError('BANYAN_BAD_TOKENIZER', `${path} is not an object`);
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new BanyanError('BANYAN_IO', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}
