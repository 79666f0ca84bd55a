/** method: how a session reads its documents. */

/** How a session reads its documents; docs/methods.md tells them apart. */
export type MethodName = 'sharedllm' | 'focusllm' | 'parallel' | 'streaming' | 'full';

/** How a chunk's tree is read; docs/formats.md tells them apart. */
export type Semantics = 'released' | 'corrected' | 'paper' | 'nested';

/** What joins a limited memory as one piece, best first: the opened nodes of a chunk, or single groups of tokens. */
export type BudgetUnit = 'chunk' | 'group';

/** SharedLLM (arXiv 2410.19318): the question opens branches of the documents' trees, which are injected. Needs its adapter. */
export interface SharedllmMethod {
  readonly name: 'sharedllm';
}

/** FocusLLM (arXiv 2408.11745): every chunk is read again with the question behind it, at every token. Needs its adapter. The defaults are exact. */
export interface FocusllmMethod {
  readonly name: 'focusllm';
  /** Longest part of the prompt put behind each chunk, tokens. Default: the adapter's, 512 in the paper. */
  readonly queryCap?: number | undefined;
  /** Candidates are computed anew only every so many tokens. Default 1: exact. */
  readonly refreshEvery?: number | undefined;
  /** Only of the chunks that the last token looked at most. Default 0: of all, exact. */
  readonly refreshChunks?: number | undefined;
}

/** Adaptive parallel encoding (arXiv 2502.05431): all layers attend to chunks that were encoded apart. Needs no adapter. */
export interface ParallelMethod {
  readonly name: 'parallel';
  /** Divides the scores of the documents' tokens. Default 0.9. */
  readonly temperature?: number | undefined;
  /** Multiplies the weight of the documents. Default 0.9; with a temperature of 1 and a scale of 1 nothing is corrected. */
  readonly scale?: number | undefined;
}

/** StreamingLLM (arXiv 2309.17453): the first tokens and a sliding window; everything between is forgotten. Any length. */
export interface StreamingMethod {
  readonly name: 'streaming';
  /** Attention sinks, tokens. Default 4. */
  readonly sinks?: number | undefined;
  /** Tokens that one token sees, sinks and itself included. Default: the model's window. */
  readonly window?: number | undefined;
}

/** Attention to every token of documents and prompt, which must fit the window, or the window times the factor of scaled positions. */
export interface FullMethod {
  readonly name: 'full';
  /** Linear (position interpolation), NTK-aware, NTK-aware fitted to the length, or YaRN. Default: the model's own positions. */
  readonly ropeScaling?: { readonly type: 'linear' | 'ntk' | 'dynamic' | 'yarn'; readonly factor: number } | undefined;
}

export type MethodOptions = SharedllmMethod | FocusllmMethod | ParallelMethod | StreamingMethod | FullMethod;
