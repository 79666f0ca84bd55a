/**
 * split: which two characters a regular-expression pre-tokenizer always separates, read off the expression itself.
 *
 * The expression is turned into its position automaton (Glushkov): positions are its character classes, `follows` says which position may come
 * right after which. If no position that takes `before` is followed by one that takes `after`, no match, and no attempt at one, runs over that
 * border; so what is left of it is split without regard to what is right of it, and, as the supported syntax has neither look-behind nor
 * anchors, the other way round. A border it is if, besides, `after` alone is a match. Look-ahead of one character sees over the border; it must
 * answer there as it does at the end of the text. Whatever the reader does not understand gives no borders.
 */
import type { Borders } from './encoder.js';
import { UnreadableError, parseSplit, type Look, type SplitNode } from './split_pattern.js';

/**
 * Borders of a chain of stages, each a pattern whose matches, and the text between them, become pieces; undefined for a stage of unknown
 * effect. `letters` bounds the characters asked about: `ascii` where a normalizer may change others, else `any`.
 * A border of one stage holds if no earlier stage reads over it.
 */
export function wordBorders(stages: readonly (string | undefined)[], letters: 'any' | 'ascii'): Borders {
  const readable: Automaton[] = [];
  for (const stage of stages) {
    const automaton = stage === undefined ? undefined : automatonOf(stage);
    if (automaton === undefined) break;
    readable.push(automaton);
  }
  if (readable.length === 0) return { kind: 'none' };
  const known = new Map<string, boolean>();
  const isBorder = (before: string, after: string): boolean => {
    if (!isPlain(before, letters) || !isPlain(after, letters)) return false;
    const pair = before + after;
    const cached = known.get(pair);
    if (cached !== undefined) return cached;
    const answer = separates(readable, before, after);
    if (known.size < 65536) known.set(pair, answer);
    return answer;
  };
  return { kind: 'words', isBorder };
}

function separates(automata: readonly Automaton[], before: string, after: string): boolean {
  for (const automaton of automata) {
    if (automaton.readsOver(before, after)) return false;
    if (automaton.takesAlone(after)) return true;
  }
  return false;
}

// Characters that every Unicode version and both regular-expression engines classify alike, and that no canonical normalization changes.
function isPlain(character: string, letters: 'any' | 'ascii'): boolean {
  if (/^[\t\n\r\x20-\x7e]$/.test(character)) return true;
  return (
    letters === 'any' &&
    /^[\xa1-\xac\xae-\u024f\u0388-\u038a\u038e-\u03a1\u03a3-\u03ff\u0400-\u0481\u2010-\u2027\u3001-\u3003\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff5e]$/.test(
      character,
    )
  );
}

function automatonOf(pattern: string): Automaton | undefined {
  try {
    return new Automaton(parseSplit(pattern));
  } catch (error) {
    if (error instanceof UnreadableError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

// The positions that may begin and end a match of a part. `looks` are look-aheads that may be asked before its first character.
interface Part {
  readonly isNullable: boolean;
  readonly first: readonly number[];
  readonly last: readonly number[];
  readonly looks: readonly Look[];
}

class Automaton {
  readonly #takes: ((character: string) => boolean)[] = [];
  readonly #follows: Set<number>[] = [];
  // Look-aheads that may be asked right after a position.
  readonly #guards: Set<Look>[] = [];
  readonly #alone: readonly SplitNode[];

  constructor(root: SplitNode) {
    this.#partOf(root);
    this.#alone = aloneOf(root);
  }

  /** True if an attempt at a match may take both characters in a row, or look at the second from the first. */
  readsOver(before: string, after: string): boolean {
    return this.#takes.some((takes, i) => {
      if (!takes(before)) return false;
      for (const j of this.#follows[i]!) if (this.#takes[j]!(after)) return true;
      for (const look of this.#guards[i]!) if (look.answers(after) !== look.answers(undefined)) return true;
      return false;
    });
  }

  /** True if the character by itself is a match, whatever comes after it. */
  takesAlone(character: string): boolean {
    return this.#alone.some((node) => node.type === 'class' && node.takes(character));
  }

  #partOf(node: SplitNode): Part {
    switch (node.type) {
      case 'class': {
        const i = this.#takes.push((character) => node.takes(character)) - 1;
        this.#follows.push(new Set());
        this.#guards.push(new Set());
        return { isNullable: false, first: [i], last: [i], looks: [] };
      }
      case 'look':
        return { isNullable: true, first: [], last: [], looks: [node] };
      case 'either': {
        const parts = node.of.map((child) => this.#partOf(child));
        return {
          isNullable: parts.some((part) => part.isNullable),
          first: parts.flatMap((part) => part.first),
          last: parts.flatMap((part) => part.last),
          looks: parts.flatMap((part) => part.looks),
        };
      }
      case 'sequence':
        return node.of
          .map((child) => this.#partOf(child))
          .reduce((left, right) => this.#join(left, right), { isNullable: true, first: [], last: [], looks: [] });
      case 'repeat': {
        const part = this.#partOf(node.of);
        if (node.most > 1) this.#join(part, part);
        return { ...part, isNullable: part.isNullable || node.least === 0 };
      }
    }
  }

  #join(left: Part, right: Part): Part {
    for (const i of left.last) {
      for (const j of right.first) this.#follows[i]!.add(j);
      for (const look of right.looks) this.#guards[i]!.add(look);
    }
    return {
      isNullable: left.isNullable && right.isNullable,
      first: left.isNullable ? [...left.first, ...right.first] : left.first,
      last: right.isNullable ? [...left.last, ...right.last] : right.last,
      looks: left.isNullable ? [...left.looks, ...right.looks] : left.looks,
    };
  }
}

// The classes that can be the whole match, on paths without look-ahead.
function aloneOf(node: SplitNode): SplitNode[] {
  switch (node.type) {
    case 'class':
      return [node];
    case 'look':
      return [];
    case 'either':
      return node.of.flatMap(aloneOf);
    case 'sequence':
      return node.of.flatMap((child, i) => (node.of.every((other, j) => i === j || canBeEmpty(other)) ? aloneOf(child) : []));
    case 'repeat':
      return node.least <= 1 || canBeEmpty(node.of) ? aloneOf(node.of) : [];
  }
}

function canBeEmpty(node: SplitNode): boolean {
  switch (node.type) {
    case 'class':
    case 'look':
      return false;
    case 'either':
      return node.of.some(canBeEmpty);
    case 'sequence':
      return node.of.every(canBeEmpty);
    case 'repeat':
      return node.least === 0 || canBeEmpty(node.of);
  }
}
