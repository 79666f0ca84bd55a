/**
 * split_pattern: reads the regular expressions of pre-tokenizers into a tree, as far as split.ts can reason about them: classes, groups,
 * alternatives, repetition and look-ahead of one character. Anchors, look-behind and back-references are refused.
 */

/** A look-ahead of one character. */
export interface Look {
  readonly type: 'look';
  /** The answer with `character` next, or at the end of the text. */
  readonly answers: (character: string | undefined) => boolean;
}

export type SplitNode =
  | { readonly type: 'class'; readonly takes: (character: string) => boolean }
  | Look
  | { readonly type: 'either'; readonly of: readonly SplitNode[] }
  | { readonly type: 'sequence'; readonly of: readonly SplitNode[] }
  | { readonly type: 'repeat'; readonly of: SplitNode; readonly least: number; readonly most: number };

/** The pattern uses syntax that this reader does not know. */
export class UnreadableError extends Error {}

/** @throws UnreadableError or SyntaxError when the pattern is beyond this reader. */
export function parseSplit(pattern: string): SplitNode {
  const reader = new Reader(pattern);
  const node = reader.either();
  if (!reader.isDone()) throw new UnreadableError(pattern);
  return node;
}

class Reader {
  readonly #pattern: string;
  #at = 0;
  #flags = '';

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  isDone(): boolean {
    return this.#at === this.#pattern.length;
  }

  either(): SplitNode {
    const of = [this.#sequence()];
    while (this.#skip('|')) of.push(this.#sequence());
    return of.length === 1 ? of[0]! : { type: 'either', of };
  }

  #sequence(): SplitNode {
    const of: SplitNode[] = [];
    while (!this.isDone() && !this.#sees('|') && !this.#sees(')')) of.push(this.#repeated(this.#item()));
    return { type: 'sequence', of };
  }

  #item(): SplitNode {
    if (this.#skip('(?:') || this.#isCapture()) return this.#group('');
    if (this.#skip('(?i:')) return this.#group('i');
    if (this.#skip('(?=')) return this.#look(true);
    if (this.#skip('(?!')) return this.#look(false);
    if (this.#sees('(')) throw new UnreadableError(this.#pattern);
    return { type: 'class', takes: this.#class() };
  }

  #isCapture(): boolean {
    if (!this.#sees('(') || this.#sees('(?')) return false;
    this.#at++;
    return true;
  }

  #group(flags: string): SplitNode {
    const outer = this.#flags;
    if (flags !== '') this.#flags = flags;
    const node = this.either();
    this.#flags = outer;
    if (!this.#skip(')')) throw new UnreadableError(this.#pattern);
    return node;
  }

  #look(isPositive: boolean): SplitNode {
    const takes = this.#class();
    if (!this.#skip(')')) throw new UnreadableError(this.#pattern);
    return { type: 'look', answers: (character) => (character !== undefined && takes(character)) === isPositive };
  }

  #repeated(node: SplitNode): SplitNode {
    const rest = this.#pattern.slice(this.#at);
    const match = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})/.exec(rest);
    if (match === null) {
      if (rest.startsWith('{')) throw new UnreadableError(this.#pattern);
      return node;
    }
    this.#at += match[0].length;
    // Lazy and possessive forms repeat the same positions.
    if (!this.#skip('?')) this.#skip('+');
    if (/^[*+?{]/.test(this.#pattern.slice(this.#at))) throw new UnreadableError(this.#pattern);
    const [, sign, from, comma, to] = match;
    if (sign !== undefined) return { type: 'repeat', of: node, least: sign === '+' ? 1 : 0, most: sign === '?' ? 1 : Infinity };
    const least = Number(from);
    return { type: 'repeat', of: node, least, most: comma === '' ? least : to === '' ? Infinity : Number(to) };
  }

  // One character class as a test.
  #class(): (character: string) => boolean {
    const source = this.#classSource();
    // Nested brackets and intersections are the v flag's.
    const expression = new RegExp(`^(?:${source})$`, `${/&&|[^\\]\[/.test(source) ? 'v' : 'u'}${this.#flags}`);
    return (character) => expression.test(character);
  }

  #classSource(): string {
    const at = this.#at;
    if (this.#sees('[')) {
      const end = this.#endOfBrackets();
      const inside = this.#pattern.slice(at, end);
      if (inside.includes('[:')) throw new UnreadableError(this.#pattern);
      this.#at = end;
      return inside.replace(/\\(?:x\{([0-9A-Fa-f]+)\}|[pP]\{[^}]*\}|x[0-9A-Fa-f]{2}|[^])/g, (escape: string, hex: string | undefined) =>
        this.#escape(escape, hex),
      );
    }
    const match = /^(?:\\(?:x\{([0-9A-Fa-f]+)\}|[pP]\{[^}]*\}|x[0-9A-Fa-f]{2}|[^])|[^])/u.exec(this.#pattern.slice(at));
    if (match === null) throw new UnreadableError(this.#pattern);
    this.#at += match[0].length;
    if (match[0].startsWith('\\')) return this.#escape(match[0], match[1]);
    if ('^$*+?{}]'.includes(match[0])) throw new UnreadableError(this.#pattern);
    return match[0] === '.' ? '[^\\n]' : match[0].replace(/[/]/, '\\/');
  }

  // The escape in ECMAScript's spelling.
  #escape(escape: string, hex: string | undefined): string {
    if (hex !== undefined) return `\\u{${hex}}`;
    const letter = escape[1]!;
    if (/^\\[pPx]./.test(escape) || 'rntfvsS'.includes(letter)) return escape;
    if (letter === 'd') return '\\p{Nd}';
    if (letter === 'D') return '\\P{Nd}';
    if (/[\w\s]/.test(letter)) throw new UnreadableError(this.#pattern);
    return `\\u{${letter.codePointAt(0)!.toString(16)}}`;
  }

  #endOfBrackets(): number {
    let depth = 0;
    for (let at = this.#at; at < this.#pattern.length; at++) {
      const character = this.#pattern[at];
      if (character === '\\') at++;
      else if (character === '[') depth++;
      else if (character === ']' && --depth === 0) return at + 1;
    }
    throw new UnreadableError(this.#pattern);
  }

  #sees(text: string): boolean {
    return this.#pattern.startsWith(text, this.#at);
  }

  #skip(text: string): boolean {
    if (!this.#sees(text)) return false;
    this.#at += text.length;
    return true;
  }
}
