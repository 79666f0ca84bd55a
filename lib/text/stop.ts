/**
 * stop: stop strings over text that arrives in pieces.
 */
import { invalidType, outOfRange } from '../errors.js';

export interface StopResult {
  /** Text that no stop string can claim any more. */
  readonly text: string;
  /** The stop string that was found; it and what follows it are not in `text`. */
  readonly stop?: string;
}

/**
 * Finds the stop string that is complete first; of two that end together, the longer one. Text that may be the beginning of a stop string is held
 * back. How the text is cut into pieces makes no difference. The work per character is proportional to the number of stop strings.
 */
export class StopMatcher {
  readonly #patterns: readonly Pattern[];
  // Text not yet given out: a beginning of one or more stop strings.
  #held = '';
  #found: string | undefined;

  /** Throws a TypeError or RangeError for stop strings that are no strings or empty. */
  constructor(stops: readonly string[]) {
    for (const stop of stops) {
      if (typeof stop !== 'string') throw invalidType('a string', 'a stop string', stop);
      if (stop === '') throw outOfRange('at least one character', 'a stop string', stop);
    }
    this.#patterns = [...new Set(stops)].sort((a, b) => b.length - a.length).map((stop) => new Pattern(stop));
  }

  /** The stop string that was found, if any; after that no more text comes. */
  get stop(): string | undefined {
    return this.#found;
  }

  push(piece: string): StopResult {
    if (this.#found !== undefined) return { text: '', stop: this.#found };
    const text = this.#held + piece;
    for (let i = this.#held.length; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let complete: Pattern | undefined;
      // Longest first, so the first to be complete is the one.
      for (const pattern of this.#patterns) if (pattern.advance(unit)) complete ??= pattern;
      if (complete !== undefined) {
        this.#found = complete.text;
        this.#held = '';
        return { text: text.slice(0, i + 1 - complete.text.length), stop: complete.text };
      }
    }
    const n_held = this.#patterns.reduce((most, pattern) => Math.max(most, pattern.matched), 0);
    this.#held = text.slice(text.length - n_held);
    return { text: text.slice(0, text.length - n_held) };
  }

  /** The text held back; call it when no more pieces come. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    for (const pattern of this.#patterns) pattern.matched = 0;
    return rest;
  }
}

// One stop string with Knuth, Morris and Pratt's table of borders.
class Pattern {
  readonly text: string;
  /** How many units of `text` the input ends with at the moment. */
  matched = 0;
  readonly #borders: Int32Array;

  constructor(text: string) {
    this.text = text;
    this.#borders = new Int32Array(text.length + 1);
    for (let i = 1, border = 0; i < text.length; i++) {
      while (border > 0 && text[i] !== text[border]) border = this.#borders[border]!;
      if (text[i] === text[border]) border++;
      this.#borders[i + 1] = border;
    }
  }

  // True if the unit completes the string.
  advance(unit: number): boolean {
    while (this.matched > 0 && this.text.charCodeAt(this.matched) !== unit) this.matched = this.#borders[this.matched]!;
    if (this.text.charCodeAt(this.matched) === unit) this.matched++;
    return this.matched === this.text.length;
  }
}
