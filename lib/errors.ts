/**
 * errors: what Banyan throws. A failure somebody can meet is a `BanyanError` with a stable `code`; a wrong argument is a TypeError or RangeError
 * in one sentence form; an abort is the signal's own reason.
 */

/** Every code of a `BanyanError`. The first block comes from the engine (cpp/base/error.h), the second from the SDK. */
export type BanyanErrorCode =
  /** An option or argument is out of its range. */
  | 'BANYAN_INVALID_ARGUMENT'
  | 'BANYAN_FILE_NOT_FOUND'
  /** Reading or writing failed: permission, full disk, ... */
  | 'BANYAN_IO'
  /** A torn or lying GGUF, safetensors or config.json. */
  | 'BANYAN_BAD_MODEL_FILE'
  /** A sound file, but an architecture or element type that Banyan does not run. */
  | 'BANYAN_UNSUPPORTED_MODEL'
  | 'BANYAN_MISSING_TENSOR'
  /** A tensor of the wrong shape or element type. */
  | 'BANYAN_BAD_TENSOR'
  | 'BANYAN_BAD_ADAPTER'
  /** The adapter belongs to another base model, or a method was asked for whose adapter is not loaded. */
  | 'BANYAN_ADAPTER_MISMATCH'
  /** A torn or damaged saved document. */
  | 'BANYAN_BAD_DOCUMENT'
  /** A saved document of another model, adapter or tokenizer. */
  | 'BANYAN_MODEL_MISMATCH'
  /** A session's documents have no tokens, and its method reads chunks. */
  | 'BANYAN_EMPTY_DOCUMENT'
  /** The message says how many bytes were needed. */
  | 'BANYAN_OUT_OF_MEMORY'
  /** The local tokens do not fit the window; `details` has promptTokens, maxTokens, window and room. */
  | 'BANYAN_CONTEXT_OVERFLOW'
  | 'BANYAN_ABORTED'
  /** Use after dispose(). */
  | 'BANYAN_DISPOSED'
  /** The asked device is not there. */
  | 'BANYAN_NO_DEVICE'
  | 'BANYAN_DEVICE_FAILED'
  /** A bug in Banyan. */
  | 'BANYAN_INTERNAL'
  /** A torn tokenizer.json or tokenizer metadata. */
  | 'BANYAN_BAD_TOKENIZER'
  /** Text was given, but the model has no tokenizer that Banyan can run. */
  | 'BANYAN_UNSUPPORTED_TOKENIZER'
  /** The chat template cannot be rendered. */
  | 'BANYAN_BAD_TEMPLATE'
  /** The native addon was not found or could not be loaded. */
  | 'BANYAN_NATIVE_LOAD_FAILED';

/** Facts that belong to an error, e.g. `{ promptTokens, maxTokens, window }`. */
export type BanyanErrorDetails = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

export interface BanyanErrorOptions {
  cause?: unknown;
  details?: BanyanErrorDetails | undefined;
}

/** Every failure of Banyan that is neither a wrong argument nor an abort. Match on `code`, never on the message. */
export class BanyanError extends Error {
  readonly code: BanyanErrorCode;
  declare readonly details?: BanyanErrorDetails;

  constructor(code: BanyanErrorCode, message: string, options: BanyanErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    if (options.details !== undefined) this.details = options.details;
  }

  static {
    Object.defineProperty(this.prototype, 'name', { value: 'BanyanError', configurable: true, writable: true });
  }
}

function withCode<E extends Error>(error: E, code: 'ERR_INVALID_ARG_TYPE' | 'ERR_OUT_OF_RANGE', where: Caller): E {
  Object.defineProperty(error, 'code', { value: code, enumerable: true, configurable: true, writable: true });
  Error.captureStackTrace(error, where);
  return error;
}

/** A function that is cut off the top of the stack, so that the stack begins at the caller's line. */
export type Caller = (...args: never[]) => unknown;

/** What was received, short enough for a message. */
export function received(value: unknown): string {
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  let shown: string;
  if (typeof value === 'string') shown = value.length > 40 ? `"${value.slice(0, 40)}…"` : `"${value}"`;
  else if (typeof value === 'object' && value !== null) {
    const name = (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor?.name;
    shown = name === undefined || name === '' ? 'an object' : name;
  } else if (typeof value === 'function') shown = value.name === '' ? 'a function' : value.name;
  else shown = String(value);
  return `${shown} of type ${type}`;
}

/** "Expected <what> for <name> but received <value> of type <type>", code ERR_INVALID_ARG_TYPE. */
export function invalidType(what: string, name: string, value: unknown, caller: Caller = invalidType): TypeError {
  return withCode(new TypeError(`Expected ${what} for ${name} but received ${received(value)}`), 'ERR_INVALID_ARG_TYPE', caller);
}

/** The same sentence for a value of the right type out of its range, code ERR_OUT_OF_RANGE. */
export function outOfRange(what: string, name: string, value: unknown, caller: Caller = outOfRange): RangeError {
  return withCode(new RangeError(`Expected ${what} for ${name} but received ${received(value)}`), 'ERR_OUT_OF_RANGE', caller);
}

/** "Unknown option maxToken; did you mean maxTokens?", code ERR_INVALID_ARG_TYPE. */
export function unknownOption(name: string, known: readonly string[], caller: Caller = unknownOption): TypeError {
  const near = nearest(name, known);
  const hint = near === undefined ? `known options are ${known.join(', ')}` : `did you mean ${near}?`;
  return withCode(new TypeError(`Unknown option ${name}; ${hint}`), 'ERR_INVALID_ARG_TYPE', caller);
}

// The known name within a third of its letters, by edit distance; case and separators do not count.
function nearest(name: string, known: readonly string[]): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replace(/[-_]/g, '');
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of known) {
    const distance = editDistance(plain(name), plain(candidate));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best !== undefined && bestDistance <= Math.max(1, Math.ceil(best.length / 3)) ? best : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The error of a native call as the user sees it: the engine's code on a BanyanError; a TypeError stays one. */
export function fromNative(error: unknown): unknown {
  if (error instanceof BanyanError || !(error instanceof Error)) return error;
  const code = (error as Error & { code?: unknown }).code;
  if (typeof code !== 'string' || !code.startsWith('BANYAN_')) return error;
  return new BanyanError(code as BanyanErrorCode, error.message);
}

/** A call of the addon that answers at once; its errors become BanyanErrors. */
export function callNative<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}

/** Use after dispose. */
export function disposed(what: string): BanyanError {
  return new BanyanError('BANYAN_DISPOSED', `The ${what} was disposed`);
}
