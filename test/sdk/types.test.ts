/** The types users see; wrong lines fail the type check (npm run typecheck), not the run. */
import { expect, expectTypeOf, test } from 'vitest';

import type { BanyanErrorCode, FinishReason, GenerateOptions, Model, Run, RunEvent, RunResult, Session } from '../../lib/index.js';
import { banyan } from '../helpers/banyan.js';

// Never run.
async function usage(model: Model, session: Session, controller: AbortController): Promise<void> {
  const { signal } = controller;
  await using book = await model.compress('text', { signal, onProgress: ({ fraction }) => expectTypeOf(fraction).toBeNumber() });
  await using also = await model.compress(new ReadableStream<string>(), { title: 'pieces' });
  await model.compress(Int32Array.of(1));
  // @ts-expect-error bytes are no text
  await model.compress(new Uint8Array(3));
  // @ts-expect-error misspelt
  await model.compress('text', { chunk_size: 5 });
  session.setDocuments([book, also]);
  const run = session.generate('Who?', { stop: ['a'], logitBias: { 5: -Infinity }, signal: undefined });
  for await (const event of run) {
    if (event.type === 'token') expectTypeOf(event.text).toBeString();
    else if (event.type === 'retrieval')
      expectTypeOf(event.retrieval[0]?.opened[0]?.tokens).toEqualTypeOf<readonly [begin: number, end: number] | undefined>();
    else if (event.type === 'done') expectTypeOf(event.result).toEqualTypeOf<RunResult>();
    else expectTypeOf(event.phase).toEqualTypeOf<'select' | 'encode' | 'prefill'>();
  }
  run.on('token', (event) => expectTypeOf(event.ids).toEqualTypeOf<Int32Array>());
  session.on('error', (error, of) => expectTypeOf(error).toBeUnknown() && expectTypeOf(of).toEqualTypeOf<Run>());
  // @ts-expect-error no such event
  run.on('tokens', () => {});
  // @ts-expect-error roles are three
  session.generate([{ role: 'tool', content: '' }]);
  expectTypeOf(run.readable()).toEqualTypeOf<ReadableStream<string>>();
  // @ts-expect-error made by the model only
  new banyan.BanyanDocument();
}

test('types', () => {
  expect(usage).toBeTypeOf('function');
  expectTypeOf(banyan.loadModel).returns.resolves.toEqualTypeOf<Model>();
  expectTypeOf<RunEvent['type']>().toEqualTypeOf<'progress' | 'retrieval' | 'token' | 'done'>();
  expectTypeOf<Run['finishReason']>().toEqualTypeOf<FinishReason | null>();
  expectTypeOf<Run['result']>().resolves.toEqualTypeOf<RunResult>();
  expectTypeOf<GenerateOptions['onAbort']>().toEqualTypeOf<'throw' | 'return' | undefined>();
  expectTypeOf<'BANYAN_DISPOSED'>().toExtend<BanyanErrorCode>();
});
