/** focus_fake: as much of the addon as the FocusLLM cases call, over the reference, so that the runner itself can be tested. */
import type { Native, NativeDocument, NativeLoadOptions, NativeTrace, NativeTraceRequest } from '../../types/native.js';
import { argMax, FocusReference, type FocusStep, type LayerRows, type Mistake } from './focus_reference.js';

interface FakeDocument {
  chunkSize: number;
  tokens: number[];
}

export function fakeNative(mistake?: Mistake): Native {
  const load = async ({ model }: NativeLoadOptions) => {
    const reference = new FocusReference(model, mistake);
    return {
      info: reference,
      createDocument: ({ chunkSize }: { chunkSize: number }) => createDocument(chunkSize),
      createSession: ({ queryCap }: { queryCap: number }) => createSession(reference, queryCap),
      dispose: async () => {},
    };
  };
  return { createCancel: () => ({ cancel: () => {}, cancelled: false }), load } as unknown as Native;
}

function createDocument(chunkSize: number) {
  const held: FakeDocument = { chunkSize, tokens: [] };
  const append = async (ids: Int32Array) => void held.tokens.push(...ids);
  return { ...held, append, complete: async () => {}, dispose: () => {} };
}

function createSession(reference: FocusReference, queryCap: number) {
  let document: FakeDocument = { chunkSize: 1, tokens: [] };
  return {
    setDocuments: ([first]: NativeDocument[]) => {
      if (first !== undefined) document = first as unknown as FakeDocument;
    },
    trace: async ({ ids, maxNewTokens, forced }: NativeTraceRequest) => {
      const { tokens, chunkSize } = document;
      const request = { document: tokens, chunkSize, queryCap, ids: [...ids], maxNewTokens, forced: forced && [...forced] };
      return traceOf(reference, reference.run(request));
    },
    dispose: () => {},
  };
}

function traceOf(reference: FocusReference, steps: readonly FocusStep[]): Partial<NativeTrace> {
  const layers = Array.from({ length: reference.layers }, (_, layer) => layer);
  const candidates = (kind: keyof LayerRows) =>
    steps.slice(0, 2).flatMap(({ chunks }) => layers.flatMap((layer) => chunks.map((pass) => pass[layer]![kind].at(-1)!)));
  const last = steps.at(-1)!;
  const ordinary = (layer: number, kind: keyof LayerRows) => last.chunks.map((pass) => pass[layer]![kind].slice(0, -1));
  const rotated = (rows: Float64Array[]) => rows.map((row, position) => reference.rotate(row, position));
  const lastRows = steps.map(({ logits }) => logits.at(-1)!);
  return {
    logits: flat(steps[0]!.logits),
    greedy: Int32Array.from(lastRows, argMax),
    greedyLogits: flat(lastRows),
    candidateKeys: flat(candidates('keys')),
    candidateValues: flat(candidates('values')),
    chunkRows: Int32Array.from(last.chunks, (pass) => pass[0]!.keys.length - 1),
    chunkKeys: flat(layers.flatMap((layer) => ordinary(layer, 'keys').flatMap(rotated))),
    chunkValues: flat(layers.flatMap((layer) => ordinary(layer, 'values').flat())),
  };
}

function flat(rows: readonly Float64Array[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => [...row]));
}
