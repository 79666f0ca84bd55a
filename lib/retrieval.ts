/** retrieval: what the engine opened, told per document. */
import type { NativeRetrieval } from '../types/native.js';
import type { DocumentRetrieval, OpenedSpan } from '../types/public.js';
import type { BanyanDocument } from './document.js';

export function retrievalOf(native: NativeRetrieval, documents: readonly BanyanDocument[]): DocumentRetrieval[] {
  return documents.map((document, index) => {
    const spans: { chunk: number; begin: number; end: number; score: number }[] = [];
    let slots = 0;
    let nodes = 0;
    for (let i = 0; i < native.document.length; i++) {
      if (native.document[i] !== index) continue;
      nodes++;
      slots += native.slotCount[i] ?? 0;
      if (native.finest[i] !== 1) continue;
      const [chunk, begin, end, score] = [native.chunk[i] ?? 0, native.begin[i] ?? 0, native.end[i] ?? 0, native.score[i] ?? NaN];
      const last = spans.at(-1);
      // Leaves of one opened span share its score and are neighbours.
      if (last !== undefined && last.chunk === chunk && last.end === begin && Object.is(last.score, score)) last.end = end;
      else spans.push({ chunk, begin, end, score });
    }
    const rank = (score: number): number => (Number.isNaN(score) ? -Infinity : score);
    spans.sort((a, b) => (rank(a.score) === rank(b.score) ? a.begin - b.begin : rank(b.score) - rank(a.score)));
    const opened = spans.map(({ chunk, begin, end, score }) =>
      Object.freeze<OpenedSpan>({ chunk, tokens: [begin, end], score, text: async () => (document.hasText ? document.text(begin, end) : '') }),
    );
    return Object.freeze<DocumentRetrieval>({ document, opened: Object.freeze(opened), slots, nodes });
  });
}
