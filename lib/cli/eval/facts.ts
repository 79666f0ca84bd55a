/** facts: sentences planted in a long text, and what asks for them. */
import type { Model } from '../../index.js';
import { draw } from './random.js';

/** A form of fact: its sentence is `stem`, a space, the value and `end`; the question is the stem. */
export interface Task {
  name: string;
  stem: (key: string) => string;
  end: string;
  keys: readonly string[];
  value: (random: () => number, taken: readonly string[]) => string;
}

// Each is one token of the demo vocabulary; any model will do that has them as words.
const kKeys =
  'falcon eagle raven tiger lion bear wolf fox horse donkey goat deer whale shark turtle snake river mountain valley island forest castle tower bridge'.split(
    ' ',
  );
const kValues =
  'violet crimson scarlet amber golden silver copper purple orange yellow green blue red black white brown pink emerald sapphire diamond pearl marble'.split(
    ' ',
  );

export const kTasks: readonly Task[] = [
  {
    name: 'kv', // key-value look-up: the other facts of the document are its distractors
    stem: (key) => `The code word of ${key} is`,
    end: '.',
    keys: kKeys,
    value: (random, taken) => draw(kValues.filter((value) => !taken.includes(value)), 1, random)[0]!, // prettier-ignore
  },
  {
    name: 'passkey', // five digits, the only fact of its document
    stem: () => 'The pass key is',
    end: '. Remember it.',
    keys: [''],
    value: (random) => String(10_000 + Math.floor(random() * 90_000)),
  },
];

export interface Fact {
  key: string;
  value: string;
  /** The value's tokens in the document, [begin, end). */
  tokens: readonly [begin: number, end: number];
}

// Of the length, to either side of a depth: depths that are all multiples of a tenth would put every fact of a length like 400K on the same token of a chunk.
const kScatter = 0.02;

/**
 * A piece of `text` of `length` tokens in which facts stand around these depths (0: the beginning, 1: the end; up to 2 % of the length beside it), in this order;
 * what they take is taken from the piece. There must be at least as many keys as depths.
 */
export async function plant(
  model: Model,
  task: Task,
  text: Int32Array,
  length: number,
  depths: readonly number[],
  random: () => number,
): Promise<{ ids: Int32Array; facts: Fact[] }> {
  const values: string[] = [];
  const sentences = await Promise.all(
    draw(task.keys, depths.length, random).map(async (key) => {
      const value = task.value(random, values);
      values.push(value);
      const [stem, answer, end] = await Promise.all([` ${task.stem(key)}`, ` ${value}`, task.end].map((part) => model.tokenize(part)));
      return { key, value, stem: stem!, answer: answer!, end: end! };
    }),
  );
  const room = length - sentences.reduce((sum, { stem, answer, end }) => sum + stem.length + answer.length + end.length, 0);
  if (room < 0) throw new RangeError(`a document of ${length} tokens has no room for ${depths.length} facts`);
  if (text.length < room) throw new RangeError(`the text has ${text.length} tokens, a document of ${length} needs ${room}`);
  const begin = Math.floor(random() * (text.length - room + 1));
  const ids: number[] = [];
  const facts: Fact[] = [];
  const places = depths.map((depth) => Math.round(Math.min(1, Math.max(0, depth + kScatter * (2 * random() - 1))) * room));
  let next = 0;
  sentences.forEach(({ key, value, stem, answer, end }, i) => {
    for (; next < places[i]!; next++) ids.push(text[begin + next]!);
    const first = ids.push(...stem);
    facts.push({ key, value, tokens: [first, ids.push(...answer)] });
    ids.push(...end);
  });
  for (; next < room; next++) ids.push(text[begin + next]!);
  return { ids: Int32Array.from(ids), facts };
}

/**
 * Whether an answer begins with the value: as a word, or in the very tokens that stand in the document. What is written behind it is not judged, except that a
 * number ends: a tiny model may go on with half a word, or babble.
 */
export function isAnswer(value: string, valueIds: Int32Array, text: string, ids: Int32Array): boolean {
  if (new RegExp(`^\\s*${value}(?![\\p{L}\\p{N}])`, 'u').test(text)) return true;
  return valueIds.every((id, i) => id === ids[i]) && !new RegExp(`^\\s*${value}\\p{N}`, 'u').test(text);
}
