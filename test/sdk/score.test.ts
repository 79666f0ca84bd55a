/** score: log-probabilities of a continuation are those of a generation that chooses its tokens, for every method. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { BanyanDocument, Model } from '../../lib/index.js';
import type { NativeMethodOptions, NativeModel } from '../../types/native.js';
import { addon, banyan, rejection } from '../helpers/banyan.js';
import { kSlow, kSmall, writeFocusAdapter, writeModel } from '../helpers/model.js';

const shape = { ...kSmall, headDim: 32, dim: 128 };
const folder = writeModel(shape);
const focus = writeFocusAdapter(shape);
const kAll = ['sharedllm', 'focusllm', 'parallel', 'streaming', 'full'] as const;
const ids = (n: number, seed: number): Int32Array => Int32Array.from({ length: n }, (_, i) => 3 + ((i * i * 7 + i * seed + seed) % 256));
const prompt = ids(40, 5);
const targets = ids(90, 11); // more than one piece
let model: Model;
let native: NativeModel;
let document: BanyanDocument;

beforeAll(async () => {
  model = await banyan.loadModel({ model: folder.model, adapter: [folder.adapter, focus] });
  native = await addon().load({ model: folder.model, adapters: [folder.adapter, focus] }, addon().createCancel(), null);
  document = await model.compress(ids(500, 3));
});
afterAll(async () => {
  await model.dispose();
  await native.dispose();
});

// Log-probabilities from the logits of one token after another.
async function expected(method: NativeMethodOptions): Promise<number[]> {
  const cancel = addon().createCancel();
  const read = native.createDocument({});
  await read.append(ids(500, 3), cancel, null);
  const session = native.createSession(method);
  session.setDocuments([read]);
  const { greedyLogits } = await session.trace({ ids: prompt, maxNewTokens: targets.length, recompute: false, forced: targets }, cancel);
  const vocabulary = native.info.vocabSize;
  return Array.from(targets, (id, i) => {
    const row = greedyLogits.subarray(i * vocabulary, (i + 1) * vocabulary);
    return row[id]! - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
  });
}

describe.each(kAll)('%s', (method) => {
  test('is what a generation would have given', async () => {
    const result = await model.createSession({ documents: [document], method }).score(prompt, targets);
    const wanted = await expected({ method });
    expect(result.logprobs).toHaveLength(targets.length);
    wanted.forEach((value, i) => expect(Math.abs(result.logprobs[i]! - value), `token ${i}`).toBeLessThan(2e-4));
    expect(new Set(wanted.map((value) => value.toFixed(2))).size, 'they differ from token to token').toBeGreaterThan(20);
    expect(result.logprob).toBeCloseTo(
      wanted.reduce((sum, value) => sum + value, 0),
      2,
    );
    expect(result.perplexity).toBeCloseTo(Math.exp(-result.logprob / targets.length), 6);
    expect(result.retrieval[0]!.document).toBe(document);
  });
});

test('the document counts, and a second time is the same but for rounding', async () => {
  const session = model.createSession({ documents: [document] });
  const first = await session.score(prompt, targets);
  const again = await session.score(prompt, targets); // its prompt is cached, so other sums may differ in their last bits
  expect(again.cachedTokens).toBeGreaterThan(0);
  again.logprobs.forEach((value, i) => expect(Math.abs(value - first.logprobs[i]!)).toBeLessThan(2e-4));
  session.setDocuments([]);
  expect((await session.score(prompt, targets)).logprob).not.toBeCloseTo(first.logprob, 3);
});

test('texts, and the conversation stays as it was', async () => {
  const session = model.createSession({ documents: [document] });
  await session.generate('What grows?', { maxTokens: 2, temperature: 0 }).result;
  const before = session.messages;
  const { ids: scored, logprobs } = await session.score('And then?', ' A tree.');
  expect(scored).toEqual(await model.tokenize(' A tree.'));
  expect(logprobs).toHaveLength(scored.length);
  expect(session.messages).toEqual(before);
  const ranked = await Promise.all([' A', ' tree'].map((text) => session.score('And then?', text)));
  expect(ranked.map(({ logprob }) => logprob).every((value) => value < 0 && Number.isFinite(value))).toBe(true);
});

test('an answer that was generated greedily has the largest probability at every token', async () => {
  const session = model.createSession({ documents: [document] });
  const { ids: answer } = await session.generate(prompt, { maxTokens: 8, temperature: 0, ignoreEos: true }).result;
  const best = await session.score(prompt, answer);
  for (const [i, id] of answer.entries()) {
    const other = Int32Array.from(answer, (each, at) => (at === i ? (id + 1) % shape.vocab : each));
    expect((await session.score(prompt, other)).logprobs[i]!).toBeLessThan(best.logprobs[i]!);
  }
});

test('what goes wrong', async () => {
  const session = model.createSession({ documents: [document] });
  expect(await rejection(session.score(prompt, new Int32Array(0)))).toBeInstanceOf(RangeError);
  expect(await rejection(session.score(prompt, ''))).toBeInstanceOf(RangeError);
  expect(await rejection(session.score(prompt, 7 as never))).toBeInstanceOf(TypeError);
  expect(await rejection(session.score(prompt, Int32Array.of(shape.vocab)))).toBeInstanceOf(RangeError);
  expect(await rejection(session.score(prompt, targets, { other: 1 } as never))).toBeInstanceOf(TypeError);
  expect(await rejection(session.score(prompt, ids(1000, 2)))).toMatchObject({
    code: 'BANYAN_CONTEXT_OVERFLOW',
    details: { promptTokens: 40, maxTokens: 1000 },
  });
  expect(await rejection(session.score(prompt, targets, { queryIndex: 40 }))).toBeInstanceOf(RangeError);
  await session.dispose();
  expect(await rejection(session.score(prompt, targets))).toMatchObject({ code: 'BANYAN_DISPOSED' });
});

test('an abort and a disposal end it', async () => {
  const slow = writeModel(kSlow);
  await using other = await banyan.loadModel({ model: slow.model });
  const session = other.createSession();
  const reason = new Error('enough');
  const controller = new AbortController();
  const scored = session.score(ids(8000, 3), ids(4000, 7), { signal: controller.signal });
  setTimeout(() => controller.abort(reason), 30);
  expect(await rejection(scored)).toBe(reason);
  const disposed = rejection(session.score(ids(8000, 3), ids(4000, 7)));
  setTimeout(() => void session.dispose(), 30);
  expect(await disposed).toMatchObject({ code: 'BANYAN_DISPOSED' });
});
