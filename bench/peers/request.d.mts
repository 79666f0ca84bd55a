import type { NativeGenerateRequest } from '../../types/native.js';

/** Greedy decoding of exactly maxTokens: nothing stops it, nothing is penalized. */
export function greedyRequest(ids: Int32Array, maxTokens: number): NativeGenerateRequest;
