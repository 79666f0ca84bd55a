/** files: texts named on the command line, read piece by piece; `-` is the standard input. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';

export interface TextFile {
  title: string;
  path: string;
  pieces(): AsyncIterable<string>;
}

/** Checks that every file is there before anything slow begins. */
export async function openTexts(paths: readonly string[]): Promise<TextFile[]> {
  for (const path of paths) {
    if (path === '-') continue;
    const found = await stat(path);
    if (found.isDirectory()) throw Object.assign(new Error(`${path} is a directory`), { code: 'EISDIR', syscall: 'read' });
  }
  return paths.map((path) => ({ title: path === '-' ? 'standard input' : basename(path), path, pieces: () => readPieces(path) }));
}

async function* readPieces(path: string): AsyncIterable<string> {
  const stream = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1 << 18 });
  stream.setEncoding('utf8');
  let isFirst = true;
  for await (const piece of stream as AsyncIterable<string>) {
    yield isFirst ? piece.replace(/^\uFEFF/, '') : piece;
    isFirst = false;
  }
}
