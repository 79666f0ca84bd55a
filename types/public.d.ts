/**
 * The options, events and results of the SDK. Token counts are tokens, times are milliseconds, sizes are bytes; token ranges are half open,
 * [begin, end). An option given as undefined counts as absent.
 */
import type { BanyanDocument } from '../lib/document.js';

/** How far a job is. `fraction` is done / total, 0 while the total is unknown. */
export interface Progress {
  /** What is being counted: bytes for 'load', 'open' and 'save', tokens for 'compress' and 'prefill', tree nodes for 'complete' and 'encode'. */
  phase: 'load' | 'open' | 'save' | 'compress' | 'complete' | 'select' | 'encode' | 'prefill';
  done: number;
  /** An estimate while text is still being read; 0: unknown. */
  total: number;
  fraction: number;
}

export type OnProgress = (progress: Progress) => void;

/** Options of every job. */
export interface JobOptions {
  /** Ends the job within about 100 ms; it rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Called on the event loop, in order, before the job settles. What it throws ends the job and rejects it. */
  onProgress?: OnProgress | undefined;
}

/** How a session reads its documents; docs/methods.md tells them apart. */
export type MethodName = 'sharedllm' | 'focusllm' | 'parallel' | 'streaming' | 'full';

export type KvType = 'f16' | 'f32' | 'q8';

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

export interface LoadModelOptions extends JobOptions {
  /** A .gguf file, or a Hugging Face directory (config.json and *.safetensors). */
  model: string;
  /** The adapter's directory or .safetensors file, or several of different methods. Without one, sessions with documents must name a method. */
  adapter?: string | readonly string[] | undefined;
  /** Default 'auto': a GPU if there is one, else the CPU. 'cuda' without a device rejects with BANYAN_NO_DEVICE, which says why. */
  device?: 'auto' | 'cpu' | 'cuda' | undefined;
  /** CPU threads. Default 0: one per physical core. */
  threads?: number | undefined;
  /** Element type of slots, memory and the local cache; 'q8' needs a head size that is a multiple of 32. Default 'f16'. */
  kvType?: KvType | undefined;
  /** Element type of whole chunks' keys and values (methods focusllm and parallel); 'q8' needs a head size that is a multiple of 32. Default: kvType. */
  poolType?: KvType | undefined;
  /** Of the adapter's matrices: as its file has them, or 8 bits, which a quantized base is best read with. Default 'stored'. */
  adapterType?: 'stored' | 'q8' | undefined;
  /** A directory: whole chunks' keys and values lie in nameless scratch files there, which the system may write out; not on a GPU. Default: in memory. */
  kvDirectory?: string | undefined;
  /** How the tree is built. Default: what the adapter was trained with. */
  semantics?: Semantics | undefined;
  /** Levels of a chunk's tree below its root. Default: the adapter's. */
  depth?: number | undefined;
  /** Slots that a node keeps, in the adapter's notation: '32', '0.25', '-1'. Default: the adapter's. */
  lastP?: string | undefined;
  /** Path of a tokenizer.json. Default: the one beside the model; GGUF: from the file's metadata. */
  tokenizer?: string | undefined;
}

/** Where models can run on this machine. */
export interface Devices {
  /** E.g. 'cpu (avx512, 2 threads)': what `device: 'cpu'` would use. */
  readonly cpu: string;
  /** Instruction sets the addon can use, best first. */
  readonly cpuVariants: readonly string[];
  /** E.g. 'cuda (NVIDIA H200, sm_90)'. null: none. */
  readonly cuda: string | null;
  /** Why there is no CUDA device: 'this build has no CUDA', 'no CUDA driver is installed', ...; '' if there is one. */
  readonly cudaObstacle: string;
}

/** Facts of a loaded model; frozen. */
export interface ModelInfo {
  /** 'llama', 'mistral', 'qwen2', 'qwen3'. */
  readonly architecture: string;
  readonly layers: number;
  readonly dim: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  /** Tokens of local context (system prompt, history, question and answer); documents do not count. */
  readonly window: number;
  readonly parameters: number;
  readonly bytes: number;
  /** null: the model has none. */
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
  /** E.g. 'cpu (avx512, 2 threads)'. */
  readonly device: string;
  /** Why no GPU is used; '' if one is. */
  readonly deviceReason: string;
  /** Of model and adapter, 32 hex digits; saved documents carry it. */
  readonly fingerprint: string;
  readonly kvType: KvType;
  /** Of whole chunks' keys and values. */
  readonly poolType: KvType;
  /** Of sessions that name none: the adapter's, SharedLLM's where there are several. null without an adapter. */
  readonly method: MethodName | null;
  /** Those that this model can run. */
  readonly methods: readonly MethodName[];
  /** null without a SharedLLM adapter. */
  readonly tree: TreeInfo | null;
  /** null without a FocusLLM adapter. */
  readonly focus: FocusInfo | null;
  /** null: only ids are accepted. */
  readonly tokenizer: TokenizerInfo | null;
}

export interface TreeInfo {
  readonly semantics: Semantics;
  readonly slotKind: 'strided' | 'mean';
  /** Lowest layers of the upper model that read the memory. */
  readonly injectedLayers: number;
  readonly depth: number;
  /** Tokens. */
  readonly chunkSize: number;
  readonly retrieval: boolean;
  /** How the keys of the memory are turned: by offset in the chunk plus the chunk's index, or each in its own half of the frequencies. */
  readonly positions: 'sum' | 'banded';
  /** Most slots that a question injects, in a session that says nothing else; 0: all that it opened. */
  readonly slotBudget: number;
  readonly budgetUnit: BudgetUnit;
  /** The compressor is the model's own lowest layers, unchanged. */
  readonly lowerShared: boolean;
}

export interface FocusInfo {
  /** Which projections have a copy of their own for candidates, e.g. 'qkvo'. */
  readonly projections: string;
  /** Tokens. */
  readonly chunkSize: number;
  /** Tokens. */
  readonly queryCap: number;
}

export interface TokenizerInfo {
  readonly fingerprint: string;
  readonly hasChatTemplate: boolean;
}

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

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface SessionOptions {
  /** What the session can read, in reading order. Default none. */
  documents?: readonly BanyanDocument[] | undefined;
  /** How the documents are read. Default: the model's method (info.method). A model without an adapter needs one named to read documents. */
  method?: MethodName | MethodOptions | undefined;
  /** sharedllm: most slots that a question injects; 0: all that it opened. Default: the adapter's. Needs an adapter whose selection has scores. */
  slotBudget?: number | undefined;
  /** sharedllm: what is left out first when the budget is full. 'group' needs an adapter with nested semantics and token keys. Default: the adapter's. */
  budgetUnit?: BudgetUnit | undefined;
  /** System prompt. Default none. */
  system?: string | undefined;
  /** Jinja chat template; null: plain text without a template. Default: the model's own, plain text if it has none. */
  template?: string | null | undefined;
}

export interface GenerateOptions {
  /** Tokens. Default 256, or what the window has left if that is less. A given value must fit. */
  maxTokens?: number | undefined;
  /** 0 to 2; 0: always the likeliest token. Default 0.7. */
  temperature?: number | undefined;
  /** Only the k likeliest tokens; 0: off. Default 0. */
  topK?: number | undefined;
  /** Only the likeliest tokens that together reach this probability. Default 1. */
  topP?: number | undefined;
  /** Only tokens with at least this fraction of the likeliest one's probability. Default 0. */
  minP?: number | undefined;
  /** Divides the logits of the last 64 tokens' ids; 1: off. Default 1. */
  repetitionPenalty?: number | undefined;
  /** -2 to 2, times the count among the last 64 tokens. Default 0. */
  frequencyPenalty?: number | undefined;
  /** -2 to 2, for ids among the last 64 tokens. Default 0. */
  presencePenalty?: number | undefined;
  /** 0 to 2^53 - 1. Default random; the result tells it. */
  seed?: number | undefined;
  /** Added to the logits of these ids; -Infinity bans one. */
  logitBias?: ReadonlyMap<number, number> | Readonly<Record<number, number>> | undefined;
  /** Ends the answer before the first of these texts. Default none. */
  stop?: string | readonly string[] | undefined;
  /** Token ids that end the answer, besides the model's own. Default none. */
  stopTokens?: readonly number[] | undefined;
  /** Go on after the model's end-of-text tokens. Default false. */
  ignoreEos?: boolean | undefined;
  /**
   * The part of the prompt whose last token selects what is read of the documents. Default: with a chat template the last user message,
   * else the whole prompt. It must occur in the prompt.
   */
  queryText?: string | undefined;
  /** For prompts of ids: the index of that token. Default: the last. */
  queryIndex?: number | undefined;
  /** Ends the run within about 100 ms. */
  signal?: AbortSignal | undefined;
  /** What an abort does: 'throw' (default) throws the reason, 'return' ends the run with finishReason 'abort' and what there is. */
  onAbort?: 'throw' | 'return' | undefined;
}

export interface ScoreOptions {
  /** As in GenerateOptions. */
  queryText?: string | undefined;
  /** For prompts of ids: the index of that token. Default: the last. */
  queryIndex?: number | undefined;
  /** Ends the job within about 100 ms. */
  signal?: AbortSignal | undefined;
}

export interface ScoreResult {
  /** The continuation's tokens. */
  readonly ids: Int32Array;
  /** Natural logarithm of each one's probability, given everything before it. */
  readonly logprobs: Float32Array;
  /** Their sum. */
  readonly logprob: number;
  /** e^(-logprob / tokens). */
  readonly perplexity: number;
  readonly promptTokens: number;
  /** Of the prompt, found in the session's cache. */
  readonly cachedTokens: number;
  readonly retrieval: readonly DocumentRetrieval[];
}

/** A string or messages are the next turn of the conversation; ids are the whole local context and leave the conversation alone. */
export type Prompt = string | readonly Message[] | Int32Array;

/** A part of a document that a run read most finely. */
export interface OpenedSpan {
  readonly chunk: number;
  /** [begin, end) in the document. */
  readonly tokens: readonly [begin: number, end: number];
  /** Similarity with the question, NaN if none was computed. */
  readonly score: number;
  /** The span's text; '' without a tokenizer. Rejects with BANYAN_DISPOSED once the document is disposed. */
  text(): Promise<string>;
}

/** What a run read of one document. */
export interface DocumentRetrieval {
  readonly document: BanyanDocument;
  /** Best score first. */
  readonly opened: readonly OpenedSpan[];
  /** Key/value slots injected. */
  readonly slots: number;
  /** Tree nodes whose slots these are. */
  readonly nodes: number;
}

export interface ProgressEvent {
  readonly type: 'progress';
  readonly phase: 'select' | 'encode' | 'prefill';
  readonly done: number;
  readonly total: number;
}

/** Once, before the first token, if the session has documents. */
export interface RetrievalEvent {
  readonly type: 'retrieval';
  readonly retrieval: readonly DocumentRetrieval[];
}

/** One or more tokens. */
export interface TokenEvent {
  readonly type: 'token';
  readonly ids: Int32Array;
  /** What can be shown now: '' while a character or a possible stop text is incomplete. The texts of all events are the result's text. */
  readonly text: string;
}

export interface DoneEvent {
  readonly type: 'done';
  readonly result: RunResult;
}

export type RunEvent = ProgressEvent | RetrievalEvent | TokenEvent | DoneEvent;

export type FinishReason =
  /** A stop text or an end token. */
  | 'stop'
  /** maxTokens. */
  | 'length'
  /** Aborted. A result has it only with onAbort 'return'. */
  | 'abort'
  /** Failed: no result has it, `run.finishReason` does. */
  | 'error';

export interface Usage {
  /** Local tokens. */
  readonly promptTokens: number;
  /** Of these, found in the session's cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Of all documents of the session. */
  readonly documentTokens: number;
  /** Injected. */
  readonly slots: number;
  readonly nodesOpened: number;
  /** Encoded for this question; the others were there. */
  readonly nodesEncoded: number;
}

/** Milliseconds. `total` starts when the session's earlier runs have ended. */
export interface Timings {
  readonly tokenize: number;
  readonly select: number;
  readonly encode: number;
  readonly prefill: number;
  readonly decode: number;
  readonly total: number;
}

export interface RunResult {
  /** The answer, without stop text. '' without a tokenizer. */
  readonly text: string;
  readonly ids: Int32Array;
  readonly finishReason: FinishReason;
  /** The stop text or token id that ended it. */
  readonly stoppedBy: string | number | null;
  readonly seed: number;
  readonly usage: Usage;
  readonly timings: Timings;
  readonly retrieval: readonly DocumentRetrieval[];
}
