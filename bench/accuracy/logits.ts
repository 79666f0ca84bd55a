/** logits: logits after every token of some texts, by Banyan and by the peer. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { native as loadNative } from '../../lib/binding.js';
import { runForJson } from '../child.js';

export interface Reading {
  file: string;
  texts: readonly Int32Array[];
  /** Token by token, as answers are made; otherwise each text is a prompt. */
  isStepped: boolean;
  threads: number;
}

/** [tokens of all texts, vocabulary]. `variant`: of the kernels; by default the fastest. */
export async function ourLogits(reading: Reading, kvType: 'f16' | 'f32', variant?: string): Promise<Float32Array> {
  const { file, texts, isStepped, threads } = reading;
  const native = loadNative();
  const cancel = native.createCancel();
  const options = { model: file, device: 'cpu' as const, threads, kvType, ...(variant === undefined ? {} : { cpuVariant: variant }) };
  const model = await native.load(options, cancel, null);
  const parts: Float32Array[] = [];
  for (const ids of texts) {
    const session = model.createSession({});
    if (isStepped) {
      const request = { ids: ids.slice(0, 1), maxNewTokens: ids.length, recompute: false, forced: ids.slice(1) };
      parts.push((await session.trace(request, cancel)).greedyLogits);
    } else {
      parts.push((await session.trace({ ids, maxNewTokens: 0, recompute: false }, cancel)).logits);
    }
    session.dispose();
  }
  await model.dispose();
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The same by node-llama-cpp, with 16-bit keys and values. */
export async function peerLogits(reading: Reading, folder: string): Promise<Float32Array> {
  const out = join(folder, 'logits.f32');
  const script = fileURLToPath(new URL('../peers/logits_llama.mjs', import.meta.url));
  const texts = reading.texts.map((ids) => [...ids]);
  await runForJson(process.execPath, [script, JSON.stringify({ ...reading, texts, out })]);
  const bytes = readFileSync(out);
  rmSync(out);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
