/** subject: the models whose accuracy is compared, and the texts they read. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { loadModel } from '../../lib/index.js';
import { native as loadNative } from '../../lib/binding.js';
import { demoText } from '../../lib/cli/demoText.js';
import { randomFrom } from '../../lib/cli/eval/random.js';
import { convertDirectory, convertGguf } from '../gguf_convert.js';
import { kShapes, writeGguf, type FileType } from '../gguf_writer.js';
import { idsOf } from '../peers/ids.mjs';
import { greedyRequest } from '../peers/request.mjs';
import type { PlainType } from '../gguf_blocks.js';

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
export const kDemo = fromRoot('models/banyan-demo');
const kTextTokens = 250; // with the token that begins a text well inside the smallest window, 512

export interface Subject {
  label: string;
  types: readonly FileType[];
  /** Writes the file of this type. */
  write(file: string, type: FileType): void;
  /** About `positions` tokens in all. */
  texts(positions: number): Promise<Int32Array[]>;
}

/** stories260K: a real small model of other people; undefined where its file is not. Its widths are no multiple of 256, so K-quants do not fit. */
function stories(folders: readonly string[]): Subject | undefined {
  const source = folders.map((folder) => join(folder, 'stories260K-f32.gguf')).find(existsSync);
  if (source === undefined) return undefined;
  return {
    label: 'stories260K',
    types: ['Q8_0', 'Q4_0', 'F16'],
    write: (file, type) => convertGguf(source, file, type as PlainType),
    // Its own stories: what it was trained on looks like this.
    texts: async (positions) => {
      const native = loadNative();
      const cancel = native.createCancel();
      const model = await native.load({ model: source, device: 'cpu' }, cancel, null);
      const texts: Int32Array[] = [];
      for (let left = positions; left > 0; left -= kTextTokens) {
        const ids = [model.info.bosId];
        const request = { ...greedyRequest(Int32Array.from(ids), Math.min(left, kTextTokens) - 1), temperature: 1, seed: left };
        await model.createSession({}).generate(request, cancel, (event) => {
          if (event.type === 'tokens') ids.push(...event.ids);
        });
        texts.push(Int32Array.from(ids));
      }
      await model.dispose();
      return texts;
    },
  };
}

const demo: Subject = {
  label: 'banyan-demo',
  types: ['Q8_0', 'Q4_0', 'F16'],
  write: (file, type) => convertDirectory(kDemo, file, type as PlainType),
  texts: async (positions) => {
    await using model = await loadModel({ model: kDemo });
    const all = await model.tokenize(demoText([]).text);
    const random = randomFrom(1);
    const texts: Int32Array[] = [];
    for (let left = positions; left > 0; left -= kTextTokens) {
      const size = Math.min(left, kTextTokens);
      const begin = Math.floor(random() * (all.length - size));
      texts.push(Int32Array.of(0, ...all.subarray(begin, begin + size - 1))); // 0 begins a text
    }
    return texts;
  },
};

/** A real shape with random weights: nothing that it says means anything, but sums are as long as in models that people run. */
function random(name: string): Subject {
  const shape = kShapes[name]!;
  return {
    label: `${name}, random weights`,
    types: ['Q8_0', 'Q4_0', 'Q4_K_M', 'F16'],
    write: (file, type) => void writeGguf(file, shape, type),
    texts: async (positions) => [idsOf(positions, shape.vocab, 1)],
  };
}

/** By name; a subject that is not here is left out with a word. Throws for unknown names. */
export function subjects(names: readonly string[], shared: string | undefined): (Subject & { name: string; isLarge: boolean })[] {
  return names.flatMap((name) => {
    const folders = shared === undefined ? ['shared/models', '../shared/models'].map(fromRoot) : [shared];
    const subject = name === 'stories' ? stories(folders) : name === 'demo' ? demo : name in kShapes ? random(name) : null;
    if (subject === null) throw new Error(`--models: ${name} is none of stories, demo, ${Object.keys(kShapes).join(', ')}`);
    if (subject === undefined) console.log(`${name} is left out: ${folders.join(' and ')} have no stories260K-f32.gguf`);
    return subject === undefined ? [] : [{ ...subject, name, isLarge: name in kShapes }];
  });
}
