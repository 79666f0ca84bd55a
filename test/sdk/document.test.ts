/** Documents: what they are made of, appending, saving and opening. */
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import type { Model, Progress } from '../../lib/index.js';
import { banyan, rejection } from '../helpers/banyan.js';
import { kSmall, temporaryFolder, writeModel } from '../helpers/model.js';

const folder = writeModel(kSmall);
const kText = 'All happy families are alike; \u00e9very unhappy family \u{1f600} is unhappy in its own way. '.repeat(60);
let model: Model;

beforeAll(async () => {
  model = await banyan.loadModel(folder);
});
afterAll(() => model.dispose());

test('text, pieces and ids make the same document', async () => {
  const ids = await model.tokenize(kText);
  const pieces = kText.match(/[^]{1,7}/g) ?? [];
  async function* slowly(): AsyncGenerator<string> {
    for (const piece of pieces) {
      if (Math.random() < 0.1) await new Promise((resolve) => setTimeout(resolve));
      yield piece;
    }
  }
  for (const input of [kText, ids, [...ids], pieces, new Set([kText]), slowly()]) {
    const document = await model.compress(input);
    expect(document.tokens()).toEqual(ids);
    expect(await document.text()).toBe(kText);
    const { tokens, chunks, chunkSize } = document.info;
    expect({ tokens, chunks, chunkSize }).toEqual({ tokens: ids.length, chunks: Math.ceil(ids.length / 64), chunkSize: 64 });
    await document.dispose();
  }
});

test('spans', async () => {
  const document = await model.compress('Hello world');
  expect(await document.text(6)).toBe('world');
  expect(await document.text(0, 5)).toBe('Hello');
  expect(await document.text(3, 1000)).toBe('lo world');
  expect([...document.tokens(0, 2)]).toEqual([75, 104]);
});

test('lazy and eager', async () => {
  const lazy = await model.compress(kText);
  expect(lazy.info.nodesEncoded).toBe(0);
  await lazy.complete();
  expect(lazy.info.nodesEncoded).toBe(lazy.info.nodes);
  const eager = await model.compress(kText, { eager: true, chunkSize: 128, title: 'T' });
  expect(eager.info).toMatchObject({ title: 'T', chunkSize: 128, nodesEncoded: eager.info.nodes, slots: expect.any(Number) as number });
  expect(Object.isFrozen(eager.info)).toBe(true);
});

test('progress grows to the whole', async () => {
  const heard: Progress[] = [];
  const all: Progress[] = [];
  const listener = (progress: Progress): void => void all.push(progress);
  model.on('progress', listener);
  await model.compress(kText.repeat(40), { onProgress: (progress) => heard.push(progress) });
  model.off('progress', listener);
  expect(all).toEqual(heard);
  const compress = heard.filter(({ phase }) => phase === 'compress');
  expect(compress.length).toBeGreaterThan(1);
  expect(compress.map(({ done }) => done)).toEqual(compress.map(({ done }) => done).sort((a, b) => a - b));
  expect(compress.at(-1)).toMatchObject({ fraction: 1 });
  for (const { fraction } of heard) expect(fraction >= 0 && fraction <= 1).toBe(true);
});

test('what onProgress throws rejects the job', async () => {
  const onProgress = (): void => {
    throw new Error('mine');
  };
  expect((await rejection(model.compress(kText, { onProgress }))).message).toBe('mine');
});

test('an error of the source rejects, whatever was read', async () => {
  async function* torn(): AsyncGenerator<string> {
    yield kText;
    await Promise.reject(new Error('torn'));
  }
  expect((await rejection(model.compress(torn()))).message).toBe('torn');
});

test('concurrent appends keep their order', async () => {
  const document = await model.compress('0');
  const parts = ['1', '2'.repeat(500), '3', '4'.repeat(70)];
  await Promise.all(parts.map((part) => document.append(part)));
  expect(await document.text()).toBe(`0${parts.join('')}`);
  const whole = await model.compress(`0${parts.join('')}`);
  expect(document.info).toEqual(whole.info);
});

test('an appended document answers like a whole one', async () => {
  const [head, tail] = [kText.slice(0, 1000), kText.slice(1000)];
  const grown = await model.compress(head);
  await model.createSession({ documents: [grown] }).generate('q', { maxTokens: 1 }).result; // its last chunk is now encoded
  await grown.append(tail);
  const whole = await model.compress(kText);
  const answers = await Promise.all(
    [grown, whole].map((document) => model.createSession({ documents: [document] }).generate('q', { maxTokens: 20, temperature: 0 }).result),
  );
  expect(answers[0]?.ids).toEqual(answers[1]?.ids);
});

test('save and open', async () => {
  const path = join(temporaryFolder(), 'text.banyan');
  const document = await model.compress(kText, { title: 'Anna', eager: true });
  const ask = async (from: typeof document, by: Model): Promise<Int32Array> =>
    (await by.createSession({ documents: [from] }).generate('q', { maxTokens: 20, temperature: 0 }).result).ids;
  const expected = await ask(document, model);
  const phases = new Set<string>();
  await document.save(path, { onProgress: ({ phase }) => phases.add(phase) });
  await document.save(path); // over itself
  expect([...phases]).toEqual(['save']);

  await using again = await banyan.loadModel(folder);
  const opened = await again.openDocument(path);
  expect(opened.info).toEqual(document.info);
  expect(opened.title).toBe('Anna');
  expect(await opened.text()).toBe(kText);
  expect(await ask(opened, again)).toEqual(expected);
  await opened.append('more');
  expect(opened.info.tokens).toBe(document.info.tokens + 4);
});

test('a file of another model or tokenizer is refused', async () => {
  const path = join(temporaryFolder(), 'text.banyan');
  await (await model.compress(kText)).save(path);
  await using other = await banyan.loadModel(writeModel({ ...kSmall, layers: 4 }));
  expect((await rejection(other.openDocument(path))).code).toBe('BANYAN_MODEL_MISMATCH');

  const tokenizer = join(temporaryFolder(), 'tokenizer.json');
  const changed = (await readFile(join(folder.model, 'tokenizer.json'), 'utf8')).replace('"A":68', '"A":69').replace('"B":69', '"B":68');
  await writeFile(tokenizer, changed);
  await using spelled = await banyan.loadModel({ ...folder, tokenizer });
  const error = await rejection(spelled.openDocument(path));
  expect(error).toMatchObject({
    code: 'BANYAN_MODEL_MISMATCH',
    details: { expected: spelled.info.tokenizer?.fingerprint, found: model.info.tokenizer?.fingerprint },
  });
});

test('a damaged file is refused', async () => {
  const path = join(temporaryFolder(), 'text.banyan');
  await (await model.compress(kText, { eager: true })).save(path);
  const bytes = await readFile(path);
  for (const at of [0, 100, bytes.length >> 1, bytes.length - 1]) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0x5a;
    await writeFile(path, damaged);
    expect((await rejection(model.openDocument(path))).code, `byte ${at}`).toMatch(/^BANYAN_(BAD_DOCUMENT|MODEL_MISMATCH)$/);
  }
  await writeFile(path, bytes.subarray(0, bytes.length - 10));
  expect((await rejection(model.openDocument(path))).code).toBe('BANYAN_BAD_DOCUMENT');
});

test('an aborted save leaves no file', async () => {
  const target = temporaryFolder();
  const path = join(target, 'text.banyan');
  const document = await model.compress(kText.repeat(20), { eager: true });
  const controller = new AbortController();
  const saved = document.save(path, { signal: controller.signal });
  controller.abort();
  expect((await rejection(saved)).name).toBe('AbortError');
  await document.save(path); // and the document is as good as before
  expect(await readdir(target)).toEqual(['text.banyan']);
  expect((await stat(path)).size).toBeGreaterThan(1000);
});

test('an empty document', async () => {
  const document = await model.compress('');
  expect(document.info).toMatchObject({ tokens: 0, chunks: 0 });
  const { result } = model.createSession({ documents: [document] }).generate('q', { maxTokens: 2, ignoreEos: true });
  await expect(result).rejects.toMatchObject({ name: 'BanyanError', code: 'BANYAN_EMPTY_DOCUMENT' });
  await document.append('now there is text');
  expect((await model.createSession({ documents: [document] }).generate('q', { maxTokens: 2 }).result).usage.slots).toBeGreaterThan(0);
});
