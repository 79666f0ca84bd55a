/** model: what a model is loaded with, and facts of a loaded one. */
import type { BudgetUnit, MethodName, Semantics } from './method.js';
import type { JobOptions } from './progress.js';

/** Of keys and values. */
export type KvType = 'f16' | 'f32' | 'q8';

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
