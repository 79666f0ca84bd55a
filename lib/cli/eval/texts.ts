/** texts: long token sequences out of text files. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';

import { BanyanError } from '../../errors.js';
import type { Model } from '../../index.js';

/** The file's bytes; .gz is unpacked here, .xz by the program xz. Rejects with BANYAN_FILE_NOT_FOUND, BANYAN_IO. */
export async function openFile(path: string): Promise<Readable> {
  await stat(path);
  if (path.endsWith('.gz'))
    return createReadStream(path)
      .on('error', () => {})
      .pipe(createGunzip());
  if (!path.endsWith('.xz')) return createReadStream(path);
  const child = spawn('xz', ['-dc', path], { stdio: ['ignore', 'pipe', 'ignore'] });
  child.on('error', () => child.stdout.destroy(new BanyanError('BANYAN_IO', `${path} needs the program xz, which was not found`)));
  child.on('close', (code) => {
    if (code !== 0 && code !== null) child.stdout.destroy(new BanyanError('BANYAN_IO', `xz could not unpack ${path}`));
  });
  return child.stdout;
}

/** Objects of a JSON Lines file (.jsonl, .jsonl.gz, .jsonl.xz). Rejects with BANYAN_INVALID_ARGUMENT for a line that is none. */
export async function* readJsonLines(path: string): AsyncGenerator<Record<string, unknown>> {
  const input = await openFile(path);
  const lines = createInterface({ input, crlfDelay: Infinity });
  let failure: Error | undefined;
  input.on('error', (error) => ((failure = error), lines.close()));
  let number = 0;
  for await (const line of lines) {
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
  if (failure !== undefined) throw failure;
}

async function* textsOf(path: string): AsyncGenerator<string> {
  if (/\.jsonl(\.gz|\.xz)?$/.test(path)) {
    for await (const { text } of readJsonLines(path)) {
      if (typeof text !== 'string') throw new BanyanError('BANYAN_INVALID_ARGUMENT', `${path}: a line has no "text"`);
      yield text;
    }
    return;
  }
  const pieces: Buffer[] = [];
  for await (const piece of await openFile(path)) pieces.push(piece as Buffer);
  yield Buffer.concat(pieces).toString('utf8');
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
