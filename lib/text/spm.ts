/**
 * spm: SentencePiece's merge algorithm, literally: of all neighbours whose concatenation is a token, join the pair whose token has the highest
 * score, the leftmost on a tie. Used where a table of ranked merges cannot say the same (tokens of equal score), and as the yardstick of the tests.
 */

const kNone = -1;

/** A vocabulary of scored tokens. */
export interface ScoredVocabulary {
  /** Token text to id. */
  readonly ids: ReadonlyMap<string, number>;
  /** Score of a token id; higher joins earlier. */
  readonly scoreOf: (id: number) => number;
  /** The ids of the UTF-8 bytes of a character that is no token itself. */
  readonly fallback: (character: string) => readonly number[];
}

/** The ids of `text`, in which spaces are already U+2581. Time n log n in the number of characters. */
export function mergeByScore(text: string, vocabulary: ScoredVocabulary): number[] {
  const symbols = Array.from(text);
  const n = symbols.length;
  const previous = new Int32Array(n);
  const next = new Int32Array(n);
  for (let i = 0; i < n; i++) [previous[i], next[i]] = [i - 1, i + 1 < n ? i + 1 : kNone];
  const queue = new PairQueue();
  const propose = (left: number, right: number): void => {
    if (left === kNone || right === kNone) return;
    const joined = symbols[left]! + symbols[right]!;
    const id = vocabulary.ids.get(joined);
    if (id !== undefined) queue.push(vocabulary.scoreOf(id), left, joined.length);
  };
  for (let i = 1; i < n; i++) propose(i - 1, i);
  for (let pair = queue.pop(); pair !== undefined; pair = queue.pop()) {
    const left = pair.left;
    const right = next[left]!;
    // A symbol that was joined into its left neighbour is empty; a pair whose length changed is out of date.
    if (symbols[left] === '' || right === kNone || symbols[left]!.length + symbols[right]!.length !== pair.size) continue;
    symbols[left] += symbols[right]!;
    symbols[right] = '';
    next[left] = next[right]!;
    if (next[left] !== kNone) previous[next[left]!] = left;
    propose(previous[left]!, left);
    propose(left, next[left]!);
  }
  const ids: number[] = [];
  for (let i = n === 0 ? kNone : 0; i !== kNone; i = next[i]!) {
    const id = vocabulary.ids.get(symbols[i]!);
    if (id !== undefined) ids.push(id);
    else ids.push(...vocabulary.fallback(symbols[i]!));
  }
  return ids;
}

interface Pair {
  score: number;
  left: number;
  /** Length of the joined text in UTF-16 units. */
  size: number;
}

const isBefore = (a: Pair, b: Pair): boolean => a.score > b.score || (a.score === b.score && a.left < b.left);

// A binary heap; the best pair is at the front.
class PairQueue {
  readonly #pairs: Pair[] = [];

  push(score: number, left: number, size: number): void {
    const pairs = this.#pairs;
    const pair = { score, left, size };
    let at = pairs.push(pair) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(pair, pairs[parent]!)) break;
      pairs[at] = pairs[parent]!;
      at = parent;
    }
    pairs[at] = pair;
  }

  pop(): Pair | undefined {
    const pairs = this.#pairs;
    const best = pairs[0];
    const last = pairs.pop();
    if (best === undefined || last === undefined || pairs.length === 0) return best;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= pairs.length) break;
      if (child + 1 < pairs.length && isBefore(pairs[child + 1]!, pairs[child]!)) child++;
      if (!isBefore(pairs[child]!, last)) break;
      pairs[at] = pairs[child]!;
      at = child;
    }
    pairs[at] = last;
    return best;
  }
}
