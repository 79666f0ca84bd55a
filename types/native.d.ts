/**
 * The contract of banyan.node, hand-written. A test checks that the binary exports exactly these members.
 * Everything is ids; text lives in lib/. Errors thrown or rejected are plain `Error`s with `code: 'BANYAN_...'`.
 * Progress and event callbacks are called on the JavaScript thread, in order, before the promise settles.
 */

/** Cancels jobs from JavaScript. One token may serve several jobs. */
export interface NativeCancel {
  cancel(): void;
  readonly cancelled: boolean;
}

export type NativeMethod = 'sharedllm' | 'focusllm' | 'parallel' | 'streaming' | 'full';

/** Settings of other methods than the session's are ignored. Defaults and meaning: MethodOptions in cpp/banyan.h. */
export interface NativeMethodOptions {
  method?: NativeMethod;
  slotBudget?: number;
  budgetUnit?: 'chunk' | 'group';
  queryCap?: number;
  refreshEvery?: number;
  refreshChunks?: number;
  ropeScaling?: 'none' | 'linear' | 'ntk' | 'dynamic' | 'yarn';
  ropeFactor?: number;
  sinks?: number;
  window?: number;
  contextTemperature?: number;
  contextScale?: number;
}

export interface NativeLoadOptions {
  model: string;
  /** Directories or .safetensors files, at most one for each method. */
  adapters?: string[];
  device?: 'auto' | 'cpu' | 'cuda';
  cpuVariant?: string;
  threads?: number;
  kvType?: 'f16' | 'f32' | 'q8';
  /** Of the adapter's matrices: as in its file (default), or 8 bits. */
  adapterType?: 'stored' | 'q8';
  /** Of whole chunks (focusllm, parallel); default kvType. */
  poolType?: 'f16' | 'f32' | 'q8';
  /** Whole chunks lie in scratch files here. */
  kvDirectory?: string;
  semantics?: 'released' | 'corrected' | 'paper' | 'nested';
  depth?: number;
  lastP?: string;
}

export interface NativeModelInfo {
  architecture: string;
  layers: number;
  dim: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  window: number;
  parameters: number;
  bytes: number;
  bosId: number; // -1: none
  eosIds: Int32Array;
  device: string;
  deviceReason: string;
  fingerprint: string;
  kvType: 'f16' | 'f32' | 'q8';
  poolType: 'f16' | 'f32' | 'q8';
  /** Of sessions that name none; null without an adapter. */
  method: NativeMethod | null;
  /** null without a FocusLLM adapter. `projections`: which have a candidate copy, e.g. 'qkvo'. */
  focus: { projections: string; chunkSize: number; queryCap: number } | null;
  /** null without a SharedLLM adapter. */
  tree: {
    semantics: 'released' | 'corrected' | 'paper' | 'nested';
    slotKind: 'strided' | 'mean';
    injectedLayers: number;
    depth: number;
    chunkSize: number;
    retrieval: boolean;
    positions: 'sum' | 'banded';
    slotBudget: number; // 0: none
    budgetUnit: 'chunk' | 'group';
    lowerShared: boolean;
  } | null;
}

/** tokenizer.* metadata of a GGUF file. */
export interface NativeTokenizerData {
  model: string;
  pre?: string;
  chatTemplate?: string;
  tokens: string[];
  merges?: string[];
  scores?: Float32Array;
  tokenTypes?: Int32Array;
  bosId?: number;
  eosId?: number;
  unkId?: number;
  padId?: number;
  eotId?: number;
  addBos?: boolean;
  addEos?: boolean;
  addSpacePrefix?: boolean;
}

export interface NativeDocumentInfo {
  tokens: number;
  chunks: number;
  chunkSize: number;
  depth: number;
  nodes: number;
  nodesEncoded: number;
  slots: number;
  chunksEncoded: number;
  bytes: number;
}

/** Node i is row i of each array. */
export interface NativeRetrieval {
  document: Int32Array;
  chunk: Int32Array;
  level: Int32Array;
  begin: Int32Array;
  end: Int32Array;
  slotCount: Int32Array;
  finest: Uint8Array;
  score: Float32Array;
  slots: number;
  nodesEncoded: number;
}

export interface NativeGenerateRequest {
  ids: Int32Array;
  queryIndex?: number;
  maxTokens: number;
  stopIds: Int32Array;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  frequencyPenalty: number;
  presencePenalty: number;
  penaltyWindow: number;
  /** Unsigned 53-bit integer. */
  seed: number;
  biasIds: Int32Array;
  biasValues: Float32Array;
}

export type NativeEvent =
  | { type: 'progress'; phase: 'select' | 'encode' | 'prefill'; done: number; total: number }
  | ({ type: 'retrieval' } & NativeRetrieval)
  | { type: 'tokens'; ids: Int32Array };

export interface NativeGenerateResult {
  finish: 'stop' | 'length';
  stopId: number; // -1: none
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  selectMs: number;
  encodeMs: number;
  prefillMs: number;
  decodeMs: number;
}

export interface NativeScoreRequest {
  ids: Int32Array;
  /** At least one. */
  targets: Int32Array;
  queryIndex?: number;
}

export interface NativeScoreResult {
  logprobs: Float32Array;
  cachedTokens: number;
}

export interface NativeTraceRequest {
  ids: Int32Array;
  queryIndex?: number;
  maxNewTokens: number;
  recompute: boolean;
  /** Fed instead of the greedy tokens. */
  forced?: Int32Array;
}

export interface NativeTrace {
  logits: Float32Array;
  greedy: Int32Array;
  greedyLogits: Float32Array;
  queryVector: Float32Array;
  retrieval: NativeRetrieval;
  slotPositions: Int32Array;
  keys: Float32Array;
  values: Float32Array;
  /** FocusLLM, of the first two steps: [steps, layers, chunks, kvHeads, headDim], keys before rotation. */
  candidateKeys: Float32Array;
  candidateValues: Float32Array;
  /** FocusLLM: rows of each chunk in [layers, all rows, kvHeads, headDim], keys rotated by their position in the chunk. */
  chunkRows: Int32Array;
  chunkKeys: Float32Array;
  chunkValues: Float32Array;
  multiplyAdds: number;
}

export type NativeProgress = (done: number, total: number) => void;

export interface NativeDocument {
  info(): NativeDocumentInfo;
  tokens(begin: number, end: number): Int32Array;
  attribute(key: string): string;
  append(ids: Int32Array, cancel: NativeCancel, onProgress: NativeProgress | null): Promise<void>;
  complete(eager: boolean, cancel: NativeCancel, onProgress: NativeProgress | null): Promise<void>;
  save(path: string, attributes: Record<string, string>, cancel: NativeCancel, onProgress: NativeProgress | null): Promise<void>;
  dispose(): void;
}

export interface NativeSession {
  setDocuments(documents: NativeDocument[]): void;
  /** Most local tokens that this prompt and its answer may have beside the documents; may be negative. */
  room(promptTokens: number): number;
  /** Its errors carry what was done until then: `result: NativeGenerateResult`. */
  generate(request: NativeGenerateRequest, cancel: NativeCancel, onEvent: (event: NativeEvent) => void): Promise<NativeGenerateResult>;
  /** Events: progress and retrieval. */
  score(request: NativeScoreRequest, cancel: NativeCancel, onEvent: (event: NativeEvent) => void): Promise<NativeScoreResult>;
  trace(request: NativeTraceRequest, cancel: NativeCancel): Promise<NativeTrace>;
  dispose(): void;
}

export interface NativeModel {
  readonly info: NativeModelInfo;
  /** GGUF files only; null for Hugging Face directories. */
  tokenizer(): NativeTokenizerData | null;
  createDocument(options: { chunkSize?: number; method?: NativeMethod; mask?: Uint8Array }): NativeDocument;
  openDocument(path: string, cancel: NativeCancel, onProgress: NativeProgress | null): Promise<NativeDocument>;
  createSession(options: NativeMethodOptions): NativeSession;
  /** Of all jobs so far: matrix products and attention. */
  multiplyAdds(): number;
  /** Ends all jobs and frees the memory once the last of them has stopped; idempotent. */
  dispose(): Promise<void>;
}

export interface NativeDevices {
  cpu: string;
  cpuVariants: string[];
  cuda: string | null;
  cudaObstacle: string;
}

export interface Native {
  version(): string;
  cpuVariants(): string[];
  devices(): NativeDevices;
  createCancel(): NativeCancel;
  load(options: NativeLoadOptions, cancel: NativeCancel, onProgress: NativeProgress | null): Promise<NativeModel>;
}
