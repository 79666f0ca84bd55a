/** sample: what one process measured of one document, and what it was asked to do. */

export interface Sample {
  /** A question and its answer without any document, in the same process: the first token, and decoding. */
  bareSeconds: number;
  bareTokensPerSecond: number;
  /** From the document's ids to the first token of its first question. */
  firstSeconds?: number;
  /** Second, third, ... question, each another one: what it needs of the tree and nobody needed before is computed now. */
  laterSeconds?: number[];
  /** The same where the whole tree is known: computed in this process, or opened from a file. */
  eagerSeconds?: number[];
  openSeconds?: number;
  openedSeconds?: number[];
  tokensPerSecond?: number;
  /** Decoding with the document, of the speed without: the median of pairs measured one after the other. */
  decodingShare?: number;
  /** Exact counts: to the first token, and of a later question of one without a document. */
  firstMultiplyAdds?: number;
  askedWork?: number;
  /** Resident, less the pages of mapped files (weights, an opened document): right after loading, at most until the first answer, and at most. */
  loadedBytes?: number;
  firstPeakBytes?: number;
  peakBytes?: number;
  /** Pages of mapped files. */
  mappedBytes?: number;
  /** Keys, values and vectors of the tree, wherever they lie. */
  treeBytes?: number;
  device: string;
}

/** From the start of a process to the first token of a short prompt, and until the model was loaded. */
export interface Start {
  startSeconds: number;
  loadSeconds: number;
}

/** `lazy`: asked as soon as it is read; `eager`: everything computed first; `opened`: from `file`. `prepare` only writes `file`. */
export type Part = 'lazy' | 'eager' | 'opened' | 'prepare';

export interface Request {
  model: string;
  adapter: string;
  part: Part;
  /** Tokens of the document, of each question, and decoded. */
  length: number;
  question: number;
  tokens: number;
  /** How many questions are asked one after the other; fewer, but two, where the process has run for so many seconds. */
  questions: number;
  seconds: number;
  /** 0: one per physical core. */
  threads: number;
  /** Of the saved document. */
  file: string;
  kvType: 'f16' | 'q8';
  adapterType: 'stored' | 'q8';
}
