/** texts: long token sequences out of text files. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

import { BanyanError } from '../../errors.js';
import type { Model } from '../../index.js';

function open(path: string): Readable {
  if (path.endsWith('.xz')) return unpackXz(path);
  const file = createReadStream(path);
  if (!path.endsWith('.gz')) return file;
  const unpacked = createGunzip();
  file.on('error', (error) => unpacked.destroy(error));
  return file.pipe(unpacked).on('error', () => file.destroy());
}

function unpackXz(path: string): Readable {
  const child = spawn('xz', ['-dc', path], { stdio: ['ignore', 'pipe', 'ignore'] });
  child.on('error', () => child.stdout.destroy(new Error('the program xz was not found')));
  child.on('close', (code) => {
    if (code !== 0 && code !== null) child.stdout.destroy(new Error('xz could not unpack it'));
  });
  return child.stdout;
}

/** The file's text in pieces; .gz is unpacked here, .xz by the program xz. Rejects with BANYAN_FILE_NOT_FOUND, BANYAN_IO. */
async function* readPieces(path: string): AsyncGenerator<string> {
  await stat(path);
  const decoder = new TextDecoder();
  try {
    for await (const piece of open(path)) yield decoder.decode(piece as Buffer, { stream: true });
  } catch (error) {
    throw new BanyanError('BANYAN_IO', `${path}: ${(error as Error).message}`);
  }
  yield decoder.decode();
}

async function* readLines(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const piece of readPieces(path)) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    yield* lines;
  }
  yield rest;
}

/** Objects of a JSON Lines file (.jsonl, .jsonl.gz, .jsonl.xz). Rejects as readPieces, with BANYAN_INVALID_ARGUMENT for a line that is none. */
export async function* readJsonLines(path: string): AsyncGenerator<Record<string, unknown>> {
  let number = 0;
  for await (const line of readLines(path)) {
    number++;
    if (line.trim() === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      value = undefined;
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new BanyanError('BANYAN_INVALID_ARGUMENT', `${path}: line ${number} is not a JSON object`);
    }
    yield value as Record<string, unknown>;
  }
}

async function* textsOf(path: string): AsyncGenerator<string> {
  if (/\.jsonl(\.gz|\.xz)?$/.test(path)) {
    for await (const { text } of readJsonLines(path)) {
      if (typeof text !== 'string') throw new BanyanError('BANYAN_INVALID_ARGUMENT', `${path}: a line has no "text"`);
      yield text;
    }
    return;
  }
  const pieces: string[] = [];
  for await (const piece of readPieces(path)) pieces.push(piece);
  yield pieces.join('');
}

/** All texts of the files as one sequence, an empty line between two; at most `limit` tokens. */
export async function readTokens(model: Model, paths: readonly string[], limit: number): Promise<Int32Array> {
  const parts: Int32Array[] = [];
  let length = 0;
  for (const path of paths) {
    for await (const text of textsOf(path)) {
      const ids = await model.tokenize(length === 0 ? text : `\n\n${text}`);
      parts.push(ids);
      length += ids.length;
      if (length >= limit) break;
    }
    if (length >= limit) break;
  }
  const all = new Int32Array(Math.min(length, limit));
  let at = 0;
  for (const part of parts) {
    all.set(part.subarray(0, all.length - at), at);
    at = Math.min(all.length, at + part.length);
  }
  return all;
}
