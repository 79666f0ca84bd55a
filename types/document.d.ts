/** document: what a document is made of, and facts of one. */
import type { MethodName } from './method.js';
import type { JobOptions } from './progress.js';

/** Text, its pieces as they arrive, or token ids. */
export type DocumentInput = string | Int32Array | readonly number[] | Iterable<string> | AsyncIterable<string>;

export interface CompressOptions extends JobOptions {
  /** Tokens of a chunk. Default: the adapter's. */
  chunkSize?: number | undefined;
  /** Whose data are computed now; what sessions of other methods need is computed when they first ask. Default: the model's method. */
  method?: MethodName | undefined;
  /** Encode every node of every tree now (SharedLLM). Default false: a node is encoded when a question first opens it. With nested semantics all are anyway. */
  eager?: boolean | undefined;
  /** Kept in saved files. Default ''. */
  title?: string | undefined;
}

export interface CompleteOptions extends JobOptions {
  /** Default true. */
  eager?: boolean | undefined;
}

export interface DocumentInfo {
  readonly title: string;
  readonly tokens: number;
  readonly chunks: number;
  /** Tokens. */
  readonly chunkSize: number;
  readonly depth: number;
  /** Of all trees; with nested semantics chunks, which are encoded as a whole. */
  readonly nodes: number;
  /** Whose slots exist. */
  readonly nodesEncoded: number;
  /** Key/value slots encoded so far. */
  readonly slots: number;
  /** Chunks all of whose keys and values exist (focusllm, parallel). */
  readonly chunksEncoded: number;
  /** All of this, in memory or mapped. */
  readonly bytes: number;
}
