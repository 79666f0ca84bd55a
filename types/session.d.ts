/** session: what sessions, runs and scorings are asked. */
import type { BanyanDocument } from '../lib/document.js';
import type { BudgetUnit, MethodName, MethodOptions } from './method.js';
import type { DocumentRetrieval } from './run.js';

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
