/** Methods: what a session of each reads, what it needs, and what goes wrong. Numbers are the engine tests' and the golden cases' business. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { BanyanDocument, MethodName, MethodOptions, Model, SessionOptions } from '../../lib/index.js';
import { banyan, rejection, thrown } from '../helpers/banyan.js';
import { kSlow, kSmall, temporaryFolder, writeFocusAdapter, writeModel } from '../helpers/model.js';

const shape = { ...kSmall, headDim: 32, dim: 128 };
const folder = writeModel(shape);
const focus = writeFocusAdapter(shape);
const kAll = ['sharedllm', 'focusllm', 'parallel', 'streaming', 'full'] as const;
const text = 'The tree grows towards the light, one ring a year. '.repeat(12); // about 600 tokens: the window is 1024
const options = { maxTokens: 6, temperature: 0, ignoreEos: true };
let model: Model;
let document: BanyanDocument;

beforeAll(async () => {
  model = await banyan.loadModel({ model: folder.model, adapter: [folder.adapter, focus] });
  document = await model.compress(text);
});
afterAll(() => model.dispose());

const answer = async (method: SessionOptions['method'], documents: readonly BanyanDocument[] = [document], of: Model = model): Promise<string> =>
  [...(await of.createSession({ documents, method }).generate('What grows?', options).result).ids].join();

test('the model tells its methods', async () => {
  expect(model.info.method).toBe('sharedllm');
  expect(model.info.methods).toEqual(kAll);
  expect(model.info.focus).toEqual({ projections: 'qkvo', chunkSize: 64, queryCap: 512 });
  await using alone = await banyan.loadModel({ model: folder.model, adapter: focus });
  expect([alone.info.method, alone.info.methods]).toEqual(['focusllm', ['focusllm', 'parallel', 'streaming', 'full']]);
  expect(alone.info.tree).toBeNull();
  await using bare = await banyan.loadModel({ model: folder.model });
  expect([bare.info.method, bare.info.methods]).toEqual([null, ['parallel', 'streaming', 'full']]);
});

describe.each(kAll)('%s', (method) => {
  test('answers, the same twice and in a conversation', async () => {
    const session = model.createSession({ documents: [document], method });
    expect(session.method).toBe(method);
    const first = await session.generate('What grows?', options).result;
    expect(first.ids).toHaveLength(6);
    expect(first.usage).toMatchObject({ completionTokens: 6, documentTokens: document.info.tokens });
    expect(first.retrieval[0]!.document).toBe(document);
    await session.generate('And then?', options).result;
    session.reset();
    expect((await session.generate('What grows?', options).result).text).toBe(first.text);
    expect(await answer(method)).toBe([...first.ids].join());
  });

  test('a saved document answers like the one it was', async () => {
    const path = join(temporaryFolder(), 'x.banyan');
    const saved = await model.compress(text, { method });
    const expected = await answer(method, [saved]);
    await saved.save(path);
    await using other = await banyan.loadModel({ model: folder.model, adapter: [folder.adapter, focus] });
    const opened = await other.openDocument(path);
    const before = other.multiplyAdds;
    expect(await answer(method, [opened], other)).toBe(expected);
    if (method === 'focusllm' || method === 'parallel') {
      expect(opened.info.chunksEncoded).toBe(opened.info.chunks);
      const { multiplyAdds } = other;
      await other.compress(text, { method });
      expect(multiplyAdds - before, 'asking a saved document costs less than reading it again and asking').toBeLessThan(other.multiplyAdds - before);
    }
  });

  test('appended text is read, a removed document is not', async () => {
    const grown = await model.compress(text.slice(0, 400), { method });
    await grown.append(text.slice(400));
    expect(await answer(method, [grown])).toBe(await answer(method));
    const session = model.createSession({ documents: [document, grown], method });
    await session.generate('What grows?', options).result.catch(() => {}); // full: too much
    session.removeDocument(grown);
    session.reset();
    expect([...(await session.generate('What grows?', options).result).ids].join()).toBe(await answer(method));
  });

  test('events tell what happens', async () => {
    const fresh = await model.compress(text);
    const types = new Set<string>();
    for await (const event of model.createSession({ documents: [fresh], method }).generate('What?', options)) {
      types.add(event.type === 'progress' ? `${event.type} ${event.phase}` : event.type);
    }
    expect([...types]).toEqual(expect.arrayContaining(['retrieval', 'token', 'done', 'progress prefill']));
  });
});

test('approximations of FocusLLM cost less', async () => {
  const cost = async (method: MethodOptions): Promise<number> => {
    const before = model.multiplyAdds;
    await model.createSession({ documents: [document], method }).generate('What grows?', { ...options, maxTokens: 12 }).result;
    return model.multiplyAdds - before;
  };
  await cost({ name: 'focusllm' }); // the chunks' own keys and values
  const exact = await cost({ name: 'focusllm' });
  const seldom = await cost({ name: 'focusllm', refreshEvery: 4 });
  const few = await cost({ name: 'focusllm', refreshChunks: 2 });
  expect(seldom).toBeLessThan(exact);
  expect(few).toBeLessThan(exact);
  expect(await cost({ name: 'focusllm', refreshEvery: 1, refreshChunks: 0 })).toBe(exact);
});

test('chunks in 8 bits and in a scratch file', async () => {
  const expected = await answer('focusllm');
  const directory = temporaryFolder();
  await using onDisk = await banyan.loadModel({ model: folder.model, adapter: focus, kvDirectory: directory });
  const read = await onDisk.compress(text);
  expect(await answer('focusllm', [read], onDisk)).toBe(expected);
  expect(readdirSync(directory), 'the file has no name').toEqual([]);
  await using small = await banyan.loadModel({ model: folder.model, adapter: focus, poolType: 'q8' });
  const packed = await small.compress(text);
  expect(packed.info.bytes).toBeLessThan(0.54 * read.info.bytes); // 34 bytes instead of 64 for 32 numbers
  expect((await small.createSession({ documents: [packed] }).generate('What grows?', options).result).ids).toHaveLength(6);
});

test('slots, memory and adapter in 8 bits', async () => {
  const stored = await model.compress(text);
  await stored.complete({ eager: true });
  const paths = { model: folder.model, adapter: [folder.adapter, focus] };
  await using small = await banyan.loadModel({ ...paths, kvType: 'q8', adapterType: 'q8' });
  expect([small.info.kvType, small.info.poolType, small.info.fingerprint]).toEqual(['q8', 'q8', model.info.fingerprint]);
  const packed = await small.compress(text);
  await packed.complete({ eager: true });
  expect(packed.info.slots).toBe(stored.info.slots);
  expect(packed.info.bytes).toBeLessThan(0.7 * stored.info.bytes); // 34 bytes instead of 64 for 32 numbers; vectors and ids are the same
  const expected = await answer('sharedllm', [packed], small);
  expect(expected.split(',')).toHaveLength(6);
  const path = join(temporaryFolder(), 'q8.banyan');
  await packed.save(path);
  await using other = await banyan.loadModel({ ...paths, kvType: 'q8', adapterType: 'q8' });
  expect(await answer('sharedllm', [await other.openDocument(path)], other)).toBe(expected);
  expect(await rejection(model.openDocument(path))).toMatchObject({ code: 'BANYAN_MODEL_MISMATCH' });
});

test('streaming reads any length, full attention says what is too long', async () => {
  const long = await model.compress(text.repeat(5), { method: 'streaming' });
  expect(
    (await model.createSession({ documents: [long], method: { name: 'streaming', window: 128 } }).generate('q', options).result).ids,
  ).toHaveLength(6);
  const { result } = model.createSession({ documents: [long], method: 'full' }).generate('q', options);
  await expect(result).rejects.toMatchObject({ code: 'BANYAN_CONTEXT_OVERFLOW', details: { room: 0, window: 1024 } });
  const scaled: MethodOptions = { name: 'full', ropeScaling: { type: 'yarn', factor: 8 } };
  expect((await model.createSession({ documents: [long], method: scaled }).generate('q', options).result).ids).toHaveLength(6);
});

test('an abort ends a run of FocusLLM soon, and the session goes on', async () => {
  const slow = writeModel(kSlow);
  await using large = await banyan.loadModel({ model: slow.model, adapter: writeFocusAdapter(kSlow) });
  const read = await large.compress('word '.repeat(500));
  const session = large.createSession({ documents: [read] });
  const controller = new AbortController();
  const run = session.generate('What?', { ...options, maxTokens: 200, signal: controller.signal });
  let aborted = 0;
  run.on('token', () => {
    if (aborted === 0) {
      aborted = performance.now();
      controller.abort(new Error('enough'));
    }
  });
  await expect(run.result).rejects.toThrow('enough');
  expect(performance.now() - aborted).toBeLessThan(1000);
  expect((await session.generate('What?', { ...options, maxTokens: 2 }).result).ids).toHaveLength(2);
});

describe('what goes wrong', () => {
  test.each<[string, SessionOptions['method'], Record<string, unknown>]>([
    ['an unknown method', 'magic' as MethodName, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }],
    ['no name', {} as MethodOptions, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }],
    ['a setting of another method', { name: 'full', sinks: 4 } as MethodOptions, { name: 'TypeError' }],
    ['a negative number', { name: 'focusllm', refreshEvery: 0 }, { name: 'RangeError' }],
    ['a scale of no kind', { name: 'full', ropeScaling: { type: 'magic' as 'ntk', factor: 2 } }, { name: 'RangeError' }],
    ['a window larger than the model', { name: 'streaming', window: 2048 }, { name: 'BanyanError', code: 'BANYAN_INVALID_ARGUMENT' }],
    ['a window of sinks only', { name: 'streaming', window: 4 }, { name: 'BanyanError', code: 'BANYAN_INVALID_ARGUMENT' }],
  ])('%s', (_, method, expected) => {
    expect(thrown(() => model.createSession({ method }))).toMatchObject(expected);
  });

  test('a method whose adapter is not loaded', async () => {
    await using bare = await banyan.loadModel({ model: folder.model });
    expect(thrown(() => bare.createSession({ method: 'focusllm' }))).toMatchObject({ code: 'BANYAN_ADAPTER_MISMATCH' });
    expect(await rejection(bare.compress(text, { method: 'sharedllm' }))).toMatchObject({ code: 'BANYAN_ADAPTER_MISMATCH' });
    const read = await bare.compress(text);
    expect(thrown(() => bare.createSession({ documents: [read] }))).toMatchObject({ code: 'BANYAN_INVALID_ARGUMENT' });
    expect(await answer('full', [read], bare)).toBe(await answer('full'));
  });

  test('adapters that do not go together', async () => {
    const twice = banyan.loadModel({ model: folder.model, adapter: [focus, focus] });
    expect(await rejection(twice)).toMatchObject({ code: 'BANYAN_BAD_ADAPTER' });
    const other = banyan.loadModel({ model: folder.model, adapter: writeFocusAdapter(kSmall) });
    expect(await rejection(other)).toMatchObject({ code: 'BANYAN_BAD_TENSOR' });
    const base = { model_type: 'llama', hidden_size: 4096 };
    const foreign = banyan.loadModel({ model: folder.model, adapter: writeFocusAdapter(shape, { base }) });
    expect(await rejection(foreign)).toMatchObject({ code: 'BANYAN_ADAPTER_MISMATCH' });
  });

  test.each(['sharedllm', 'focusllm', 'parallel'] as const)('a document without chunks: %s', async (method) => {
    const empty = await model.compress('', { method });
    const { result } = model.createSession({ documents: [empty], method }).generate('q', options);
    await expect(result).rejects.toMatchObject({ name: 'BanyanError', code: 'BANYAN_EMPTY_DOCUMENT' });
  });

  test('8 bits and a head size they do not fit', async () => {
    const odd = writeModel(kSmall); // heads of 16
    for (const types of [{ poolType: 'q8' }, { kvType: 'q8' }] as const)
      expect(await rejection(banyan.loadModel({ model: odd.model, ...types }))).toMatchObject({ code: 'BANYAN_INVALID_ARGUMENT' });
  });

  test('a directory for chunks that is not there', async () => {
    await using lost = await banyan.loadModel({ model: folder.model, adapter: focus, kvDirectory: join(temporaryFolder(), 'none') });
    expect(await rejection(lost.compress(text))).toMatchObject({ code: 'BANYAN_FILE_NOT_FOUND' });
  });

  test('a prompt that leaves no room beside the chunks', async () => {
    const prompt = 'x'.repeat(1020);
    const { result } = model.createSession({ documents: [document], method: 'parallel' }).generate(prompt, options);
    await expect(result).rejects.toMatchObject({ code: 'BANYAN_CONTEXT_OVERFLOW' });
  });

  test('more chunks than memory can hold are refused before any is read', async () => {
    const big = writeModel({ ...kSlow, window: 1 << 20 });
    await using large = await banyan.loadModel({ model: big.model, adapter: writeFocusAdapter(kSlow), poolType: 'f32' });
    const tokens = 128 * 1024 * 1024; // times 32 KiB
    const began = performance.now();
    const refused = await rejection(large.compress(new Int32Array(tokens).fill(5)));
    expect(refused).toMatchObject({ code: 'BANYAN_OUT_OF_MEMORY' });
    expect((refused as Error).message).toMatch(/needs \d{13} bytes of memory, \d+ are available/);
    expect(performance.now() - began).toBeLessThan(30_000);
  }, 60_000);
});
