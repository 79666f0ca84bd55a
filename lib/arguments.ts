/** arguments: checks of what users pass, each an error in the sentence form of errors.ts. undefined counts as absent everywhere. */
import { invalidType, outOfRange, unknownOption, type Caller } from './errors.js';

/** The checks of one call. `caller` is the public function: error stacks begin at its caller. */
export class Check {
  readonly #caller: Caller;

  constructor(caller: Caller) {
    this.#caller = caller;
  }

  /** The options object, `{}` where absent. A name that is not in `known` is an error that suggests one. */
  options<T extends object>(value: T | undefined, known: readonly (keyof T & string)[], name = 'options'): Partial<T> {
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalidType('object', name, value, this.#caller);
    for (const key of Object.keys(value)) {
      if (!(known as readonly string[]).includes(key)) throw unknownOption(key, known, this.#caller);
    }
    return value;
  }

  string(value: unknown, name: string): string {
    if (typeof value !== 'string') throw invalidType('string', name, value, this.#caller);
    return value;
  }

  path(value: unknown, name: string): string {
    if (this.string(value, name) === '') throw outOfRange('non-empty path', name, value, this.#caller);
    return value as string;
  }

  boolean(value: unknown, name: string, absent: boolean): boolean {
    if (value === undefined) return absent;
    if (typeof value !== 'boolean') throw invalidType('boolean', name, value, this.#caller);
    return value;
  }

  number(value: unknown, name: string, min: number, max: number, absent: number): number {
    return value === undefined ? absent : this.#within('number', value, name, min, max);
  }

  integer(value: unknown, name: string, min: number, max: number): number {
    return this.#within('integer', value, name, min, max);
  }

  oneOf<T extends string>(value: unknown, name: string, known: readonly T[]): T | undefined {
    if (value === undefined) return undefined;
    const what = `one of ${known.join(', ')}`;
    if (typeof value !== 'string') throw invalidType(what, name, value, this.#caller);
    if (!(known as readonly string[]).includes(value)) throw outOfRange(what, name, value, this.#caller);
    return value as T;
  }

  function<T extends (...args: never[]) => unknown>(value: T | undefined, name: string): T | undefined {
    if (value !== undefined && typeof value !== 'function') throw invalidType('function', name, value, this.#caller);
    return value;
  }

  signal(value: AbortSignal | undefined): AbortSignal | undefined {
    if (value === undefined) return undefined;
    const is = typeof value === 'object' && value !== null && typeof value.aborted === 'boolean' && typeof value.addEventListener === 'function';
    if (!is) throw invalidType('AbortSignal', 'signal', value, this.#caller);
    return value;
  }

  array(value: unknown, name: string, what: string): readonly unknown[] {
    if (!Array.isArray(value)) throw invalidType(what, name, value, this.#caller);
    return value as readonly unknown[];
  }

  /** A copy as Int32Array; every id must be in the vocabulary. */
  ids(value: Int32Array | readonly number[], name: string, vocabSize: number): Int32Array {
    const out = new Int32Array(value.length);
    for (let i = 0; i < value.length; i++) {
      const id = value[i];
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
        this.#within('integer', id, `${name}[${i}]`, 0, vocabSize - 1);
      }
      out[i] = id as number;
    }
    return out;
  }

  #within(kind: 'number' | 'integer', value: unknown, name: string, min: number, max: number): number {
    const what = max === Infinity ? `${kind} of at least ${min}` : `${kind} between ${min} and ${max}`;
    if (typeof value !== 'number') throw invalidType(what, name, value, this.#caller);
    if (!(value >= min && value <= max) || (kind === 'integer' && !Number.isInteger(value))) throw outOfRange(what, name, value, this.#caller);
    return value;
  }
}
