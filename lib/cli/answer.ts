/** answer: one generation, streamed, with a bar while the document is opened and the question is read. */
import type { RunResult, Session } from '../index.js';
import type { GenerationFlags } from './options.js';
import type { Progress } from './progress.js';

const kPhases = { select: 'choosing', encode: 'opening', prefill: 'prompt' } as const;

export async function answer(
  session: Session,
  question: string,
  flags: GenerationFlags,
  signal: AbortSignal,
  progress: Progress,
  onText: (text: string) => void,
): Promise<RunResult> {
  const { maxTokens, temperature, topP, stop, seed } = flags;
  const run = session.generate(question, { maxTokens, temperature, topP, stop, seed, signal });
  for await (const event of run) {
    if (event.type === 'progress') progress.update(kPhases[event.phase], event.done, event.total);
    if (event.type === 'token') {
      progress.end();
      onText(event.text);
    }
  }
  progress.end();
  return run.result;
}

/** What a question opened, best first over all documents. */
export interface Passage {
  document: string;
  chunk: number;
  tokens: readonly [begin: number, end: number];
  /** null: no similarity was computed. */
  score: number | null;
  text: string;
}

export async function passagesOf(result: RunResult, most: number): Promise<Passage[]> {
  const all = result.retrieval.flatMap(({ document, opened }) => opened.map((span) => ({ title: document.info.title, span })));
  const order = (score: number): number => (Number.isNaN(score) ? -Infinity : score);
  const best = all.sort((a, b) => order(b.span.score) - order(a.span.score)).slice(0, most);
  return Promise.all(
    best.map(async ({ title, span }) => {
      const { chunk, tokens, score } = span;
      return { document: title, chunk, tokens, score: Number.isNaN(score) ? null : score, text: await span.text() };
    }),
  );
}
