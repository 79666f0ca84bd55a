/** Runs and sessions: events, results, conversation, what ends an answer. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { Model, RunEvent, TokenEvent } from '../../lib/index.js';
import { banyan, rejection, thrown } from '../helpers/banyan.js';
import { kSmall, writeModel } from '../helpers/model.js';

const kTemplate =
  "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

let model: Model;

beforeAll(async () => {
  model = await banyan.loadModel(writeModel(kSmall));
});
afterAll(() => model.dispose());

const quiet = { ignoreEos: true } as const;

test('events come in order and agree with the result', async () => {
  const document = await model.compress('Napoleon came to Moscow. '.repeat(40), { title: 'war' });
  const session = model.createSession({ documents: [document] });
  const run = session.generate('Who burned Moscow?', { maxTokens: 30, seed: 7, ...quiet });
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  const result = await run.result;
  const types = events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]);
  expect(types).toEqual(['progress', 'retrieval', 'progress', 'token', 'done']);
  const tokens = events.filter((event): event is TokenEvent => event.type === 'token');
  expect(tokens.map((event) => event.text).join('')).toBe(result.text);
  expect(tokens.flatMap((event) => [...event.ids])).toEqual([...result.ids]);
  expect(events.at(-1)).toEqual({ type: 'done', result });
  expect(run).toMatchObject({ text: result.text, finishReason: 'length' });
  expect(result).toMatchObject({ finishReason: 'length', stoppedBy: null, seed: 7 });
  expect(result.usage).toMatchObject({ promptTokens: 19, cachedTokens: 0, completionTokens: 30, documentTokens: document.info.tokens });
  expect(result.usage.nodesEncoded).toBe(result.usage.nodesOpened);
  expect(result.timings.total).toBeGreaterThan(0);

  const [read] = result.retrieval;
  expect(read?.document).toBe(document);
  expect(read?.slots).toBe(result.usage.slots);
  expect(read?.nodes).toBe(result.usage.nodesOpened);
  const scores = (read?.opened ?? []).map((span) => span.score);
  expect(scores.length).toBeGreaterThan(1);
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
  for (const span of read?.opened ?? []) expect(await span.text()).toBe(await document.text(...span.tokens));

  const again = await model.createSession({ documents: [document] }).generate('Who burned Moscow?', { maxTokens: 1 }).result;
  expect(again.usage.nodesEncoded).toBe(0);
});

test('a seed makes an answer repeatable, and the result tells it', async () => {
  const first = await model.createSession().generate('Once', { maxTokens: 30, ...quiet }).result;
  const { seed } = first;
  expect(Number.isSafeInteger(seed)).toBe(true);
  expect((await model.createSession().generate('Once', { maxTokens: 30, seed, ...quiet }).result).text).toBe(first.text);
  expect((await model.createSession().generate('Once', { maxTokens: 30, seed: seed + 1, ...quiet }).result).ids).not.toEqual(first.ids);
});

test('greedy is the same whatever the seed', async () => {
  const answers = await Promise.all([1, 2].map((seed) => model.createSession().generate('Once', { maxTokens: 20, temperature: 0, seed }).result));
  expect(answers[0]?.ids).toEqual(answers[1]?.ids);
});

test('iterating and awaiting are independent', async () => {
  const iterated = model.createSession().generate('Once', { maxTokens: 5, ...quiet });
  await iterated.result; // events are kept
  const types: string[] = [];
  for await (const event of iterated) types.push(event.type);
  expect(types.filter((type) => type === 'done')).toHaveLength(1);
  expect(thrown(() => iterated[Symbol.asyncIterator]())).toMatchObject({ code: 'ERR_INVALID_STATE' });
});

test('break cancels the run', async () => {
  const session = model.createSession();
  const run = session.generate('Once', { maxTokens: 900, ...quiet });
  for await (const event of run) if (event.type === 'token') break;
  expect(run.finishReason).toBe('abort');
  expect(run.text).not.toBe('');
  expect((await rejection(run.result)).name).toBe('AbortError');
  expect(session.messages).toEqual([]);
});

test('a throw in the loop cancels the run', async () => {
  const run = model.createSession().generate('Once', { maxTokens: 900, ...quiet });
  const loop = async (): Promise<void> => {
    for await (const event of run) if (event.type === 'token') throw new Error('mine');
  };
  expect((await rejection(loop())).message).toBe('mine');
  expect(run.finishReason).toBe('abort');
});

test('readable', async () => {
  const session = model.createSession();
  const run = session.generate('Once', { maxTokens: 20, ...quiet });
  let text = '';
  for await (const piece of run.readable()) text += piece;
  expect(text).toBe((await run.result).text);
  const cancelled = session.generate('Once', { maxTokens: 900, ...quiet });
  const reader = cancelled.readable().getReader();
  await reader.read();
  await reader.cancel();
  expect(cancelled.finishReason).toBe('abort');
});

test('stop texts', async () => {
  const whole = await model.createSession().generate('Once', { maxTokens: 60, temperature: 0, ...quiet }).result;
  const stop = whole.text.slice(8, 11);
  const at = whole.text.indexOf(stop);
  const session = model.createSession();
  const run = session.generate('Once', { maxTokens: 60, temperature: 0, stop: ['never there', stop], ...quiet });
  let streamed = '';
  for await (const event of run) if (event.type === 'token') streamed += event.text;
  const result = await run.result;
  expect(result).toMatchObject({ finishReason: 'stop', stoppedBy: stop, text: whole.text.slice(0, at) });
  expect(streamed).toBe(result.text);
  expect(result.ids).toEqual(whole.ids.slice(0, result.ids.length));
  expect(result.usage.promptTokens).toBe(5);
  expect(session.messages.at(-1)?.content).toBe(result.text);
  expect((await session.generate('!', { maxTokens: 2, ...quiet }).result).finishReason).toBe('length'); // the session goes on
});

test('stop tokens and the logit bias', async () => {
  const forced = { logitBias: { 100: 1e9 } };
  const stopped = await model.createSession().generate('Once', { stopTokens: [100], ...forced }).result;
  expect(stopped).toMatchObject({ finishReason: 'stop', stoppedBy: 100, text: '' });
  const eos = { logitBias: new Map([[2, 1e9]]), maxTokens: 3 };
  expect(await model.createSession().generate('Once', eos).result).toMatchObject({ finishReason: 'stop', stoppedBy: 2 });
  expect(await model.createSession().generate('Once', { ...eos, ignoreEos: true }).result).toMatchObject({
    finishReason: 'length',
    ids: Int32Array.of(2, 2, 2),
  });
  const banned = await model.createSession().generate('Once', { ...forced, maxTokens: 3, temperature: 0 }).result;
  expect([...banned.ids]).toEqual([100, 100, 100]);
});

test('a conversation without a template', async () => {
  const session = model.createSession({ system: 'Be brief.' });
  const first = await session.generate('One', { maxTokens: 5, seed: 1, ...quiet }).result;
  expect(session.messages).toEqual([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'One' },
    { role: 'assistant', content: first.text },
  ]);
  const second = await session.generate([{ role: 'user', content: 'Two' }], { maxTokens: 5, ...quiet }).result;
  expect(second.usage.cachedTokens).toBeGreaterThan(0);
  expect(session.messages).toHaveLength(5);
  session.reset();
  expect(session.messages).toEqual([{ role: 'system', content: 'Be brief.' }]);
});

test('a conversation with a template', async () => {
  await using chat = await banyan.loadModel(writeModel(kSmall, { chatTemplate: kTemplate }));
  expect(chat.info.tokenizer?.hasChatTemplate).toBe(true);
  const count = async (text: string): Promise<number> => (await chat.tokenize(text)).length;
  const session = chat.createSession({ system: 'S' });
  const first = await session.generate('One', { maxTokens: 5, ...quiet }).result;
  expect(first.usage.promptTokens).toBe(1 + (await count('<system>S</system><user>One</user><assistant>')));
  const plain = await chat.createSession({ template: null }).generate('One', { maxTokens: 5 }).result;
  expect(plain.usage.promptTokens).toBe(1 + 3);
  const own = await chat.createSession({ template: '{{ messages[0].content }}!' }).generate('One', { maxTokens: 5 }).result;
  expect(own.usage.promptTokens).toBe(1 + 4);
  const bad = chat.createSession({ template: '{% for %}' }).generate('One');
  expect((await rejection(bad.result)).code).toBe('BANYAN_BAD_TEMPLATE');
});

test('prompts of ids are the whole local context', async () => {
  const session = model.createSession({ system: 'S' });
  const result = await session.generate(Int32Array.of(1, 70, 71), { maxTokens: 2, queryIndex: 1 }).result;
  expect(result.usage.promptTokens).toBe(3);
  expect(session.messages).toHaveLength(1);
});

test('the question decides what is opened', async () => {
  const document = await model.compress('aaaa bbbb cccc dddd '.repeat(50));
  const prompt = 'First this question? Then a long tail';
  const opened = async (options: object): Promise<unknown> => {
    const { retrieval } = await model.createSession({ documents: [document] }).generate(prompt, { maxTokens: 1, ...options }).result;
    return retrieval[0]?.opened.map(({ tokens, score }) => [tokens, score]);
  };
  expect(await opened({ queryText: 'long tail' })).toEqual(await opened({}));
  expect(await opened({ queryText: 'this question?' })).not.toEqual(await opened({}));
  expect((await rejection(opened({ queryText: 'not there' }))).message).toBe(
    'Expected part of the prompt for queryText but received "not there" of type string',
  );
});

test('the window', async () => {
  const session = model.createSession();
  const prompt = 'x'.repeat(1000);
  const error = await rejection(session.generate(prompt, { maxTokens: 100 }).result);
  expect(error).toMatchObject({
    name: 'BanyanError',
    code: 'BANYAN_CONTEXT_OVERFLOW',
    details: { promptTokens: 1001, maxTokens: 100, window: 1024 },
  });
  expect((await session.generate(prompt, quiet).result).usage.completionTokens).toBe(23);
  const full = await rejection(session.generate('x'.repeat(2000)).result);
  expect(full).toMatchObject({ code: 'BANYAN_CONTEXT_OVERFLOW', details: { maxTokens: null } });
});

test('runs of a session take turns, runs of several sessions share the engine', async () => {
  const session = model.createSession();
  const order: string[] = [];
  const runs = ['a', 'b', 'c'].map((name) => {
    const run = session.generate(name, { maxTokens: 3, ...quiet });
    run.on('done', () => order.push(name));
    return run;
  });
  await Promise.all(runs.map((run) => run.result));
  expect(order).toEqual(['a', 'b', 'c']);
  expect(session.messages.filter(({ role }) => role === 'user').map(({ content }) => content)).toEqual(['a', 'b', 'c']);
  const many = Array.from({ length: 8 }, (_, i) => model.createSession().generate(String(i), { maxTokens: 40, ...quiet }).result);
  for (const result of await Promise.all(many)) expect(result.usage.completionTokens).toBe(40);
});

test('documents of a session change for the runs that follow', async () => {
  const [one, two] = [await model.compress('first document'), await model.compress('second document')];
  const session = model.createSession({ documents: [one] });
  const before = session.generate('q', { maxTokens: 1 });
  session.addDocument(two, 0);
  expect(session.documents).toEqual([two, one]);
  const after = session.generate('q', { maxTokens: 1 });
  expect(session.removeDocument(two)).toBe(true);
  expect(session.removeDocument(two)).toBe(false);
  expect((await before.result).retrieval.map(({ document }) => document)).toEqual([one]);
  expect((await after.result).retrieval.map(({ document }) => document)).toEqual([two, one]);
  session.setDocuments([]);
  expect((await session.generate('q', { maxTokens: 1 }).result).retrieval).toEqual([]);
});

test('emitted events', async () => {
  const heard: string[] = [];
  const session = model.createSession();
  session.on('token', (event, run) => heard.push(`session ${event.type} ${run.text.length > 0}`));
  session.on('done', () => heard.push('session done'));
  session.on('error', (error) => heard.push(`session ${(error as Error).message}`));
  const onDone = (): void => void heard.push('model done');
  model.on('done', onDone);
  await session.generate('Once', { maxTokens: 1, logitBias: { 100: 1e9 }, ...quiet }).result;
  await rejection(session.generate('Once', { signal: AbortSignal.abort(new Error('no')) }).result);
  model.off('done', onDone);
  expect(heard).toEqual(['session token true', 'session done', 'model done', 'session no']);
});

test('a listener that throws ends the run', async () => {
  const run = model.createSession().generate('Once', { maxTokens: 900, ...quiet });
  run.on('token', () => {
    throw new Error('mine');
  });
  expect((await rejection(run.result)).message).toBe('mine');
  expect(run.finishReason).toBe('error');
});

test('a model without tokenizer takes ids only', async () => {
  await using bare = await banyan.loadModel(writeModel(kSmall, { tokenizer: false }));
  expect(bare.info.tokenizer).toBeNull();
  const document = await bare.compress([5, 6, 7]);
  const session = bare.createSession({ documents: [document] });
  const run = session.generate(Int32Array.of(5, 6), { maxTokens: 4, ...quiet });
  const ids: number[] = [];
  for await (const event of run) if (event.type === 'token') ids.push(...event.ids);
  const result = await run.result;
  expect(result.text).toBe('');
  expect(ids).toEqual([...result.ids]);
  expect(await result.retrieval[0]?.opened[0]?.text()).toBe('');
  expect(thrown(() => session.generate('text')).code).toBe('BANYAN_UNSUPPORTED_TOKENIZER');
  for (const job of [bare.compress('text'), bare.tokenize('text'), bare.detokenize([5]), document.text()]) {
    expect((await rejection(job)).code).toBe('BANYAN_UNSUPPORTED_TOKENIZER');
  }
});

test('tokenize and detokenize', async () => {
  const ids = await model.tokenize('h\u00e9<s>', { addSpecial: true });
  expect([...ids]).toEqual([1, ...Buffer.from('h\u00e9<s>').map((byte) => byte + 3)]);
  expect([...(await model.tokenize('<s>', { parseSpecial: true }))]).toEqual([1]);
  expect(await model.detokenize(ids, { skipSpecial: true })).toBe('h\u00e9<s>');
  expect(await model.detokenize([...ids])).toBe('<s>h\u00e9<s>');
});
