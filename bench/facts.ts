/** facts: long real texts with planted facts: "The code word of falcon is violet." */
import { execSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Model } from '../lib/index.js';

/** Of one text. */
export const kFacts = 8;
// Each is one token of the demo vocabulary; any model will do that has them as words.
const kKeys =
  'falcon eagle raven tiger lion bear wolf fox horse donkey goat deer whale shark turtle snake river mountain valley island forest castle tower bridge'.split(
    ' ',
  );
const kValues =
  'violet crimson scarlet amber golden silver copper purple orange yellow green blue red black white brown pink emerald sapphire diamond pearl marble'.split(
    ' ',
  );

/** mulberry32: numbers in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function draw(words: readonly string[], count: number, random: () => number): string[] {
  const left = [...words];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}

/** The documentation that every npm installation carries. */
export function npmDocs(): string {
  const folder = join(execSync('npm root -g', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim(), 'npm/docs');
  const pages = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'));
  return pages
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n\n');
}

export interface Fact {
  key: string;
  value: string;
  /** Of its value in the document. */
  token: number;
}

/** A piece of the text with kFacts facts at even distances, a little at random. */
export async function plant(model: Model, text: Int32Array, length: number, random: () => number): Promise<{ ids: Int32Array; facts: Fact[] }> {
  const begin = Math.floor(random() * (text.length - length));
  const ids: number[] = [];
  const facts: Fact[] = [];
  const values = draw(kValues, kFacts, random);
  let next = begin;
  for (const [i, key] of draw(kKeys, kFacts, random).entries()) {
    const at = begin + Math.floor(((i + random()) * length) / kFacts);
    for (; next < at; next++) ids.push(text[next]!);
    const sentence = await model.tokenize(` The code word of ${key} is ${values[i]!}.`);
    facts.push({ key, value: values[i]!, token: ids.length + sentence.length - 2 });
    ids.push(...sentence);
  }
  for (; next < begin + length; next++) ids.push(text[next]!);
  return { ids: Int32Array.from(ids), facts };
}
