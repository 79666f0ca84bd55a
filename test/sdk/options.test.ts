/** Wrong arguments: one sentence form, a code, and the caller's stack. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { BanyanDocument, Model, Session } from '../../lib/index.js';
import { banyan, rejection, thrown } from '../helpers/banyan.js';
import { kSmall, writeModel } from '../helpers/model.js';

const folder = writeModel(kSmall);
let model: Model;
let session: Session;
let document: BanyanDocument;

beforeAll(async () => {
  model = await banyan.loadModel(folder);
  session = model.createSession();
  document = await model.compress('text');
});
afterAll(() => model.dispose());

const kType = 'ERR_INVALID_ARG_TYPE';
const kRange = 'ERR_OUT_OF_RANGE';

test.each<[unknown, string, string]>([
  [{ temperature: 5 }, kRange, 'Expected number between 0 and 2 for temperature but received 5 of type number'],
  [{ temperature: '1' }, kType, 'Expected number between 0 and 2 for temperature but received "1" of type string'],
  [{ maxTokens: 1.5 }, kRange, 'Expected integer between 1 and 2147483647 for maxTokens but received 1.5 of type number'],
  [{ maxTokens: 0 }, kRange, 'Expected integer between 1 and 2147483647 for maxTokens but received 0 of type number'],
  [{ topP: NaN }, kRange, 'Expected number between 0 and 1 for topP but received NaN of type number'],
  [{ seed: -1 }, kRange, 'Expected integer between 0 and 9007199254740991 for seed but received -1 of type number'],
  [{ stop: 5 }, kType, 'Expected string or array of strings for stop but received 5 of type number'],
  [{ stop: ['a', ''] }, kRange, 'Expected non-empty string for stop but received "" of type string'],
  [{ stopTokens: [300] }, kRange, 'Expected integer between 0 and 299 for stopTokens[0] but received 300 of type number'],
  [{ logitBias: { 300: 1 } }, kRange, 'Expected integer between 0 and 299 for an id of logitBias but received 300 of type number'],
  [
    { logitBias: { 5: 'x' } },
    kType,
    'Expected number between -Infinity and 1.7976931348623157e+308 for logitBias[5] but received "x" of type string',
  ],
  [{ signal: {} }, kType, 'Expected AbortSignal for signal but received Object of type object'],
  [{ onAbort: 'stop' }, kRange, 'Expected one of throw, return for onAbort but received "stop" of type string'],
  [{ queryIndex: 0 }, kType, 'Expected a prompt of ids for queryIndex but received "x" of type string'],
  [{ maxToken: 5 }, kType, 'Unknown option maxToken; did you mean maxTokens?'],
  [{ top_k: 5 }, kType, 'Unknown option top_k; did you mean topK?'],
  [null, kType, 'Expected object for options but received null of type null'],
])('generate %j', (options, code, message) => {
  const error = thrown(() => session.generate('x', options as never));
  expect(error).toMatchObject({ code, message });
  expect(error).toBeInstanceOf(code === kType ? TypeError : RangeError);
  expect(error.stack?.split('\n')[1]).toContain('options.test.ts');
});

test('prompts', () => {
  for (const prompt of [5, null, undefined, {}, [{ role: 'user' }], ['x']]) {
    expect(thrown(() => session.generate(prompt as never)).code, JSON.stringify(prompt)).toBe(kType);
  }
  for (const prompt of [[], [{ role: 'owner', content: '' }], new Int32Array(0), Int32Array.of(-1), Int32Array.of(300)]) {
    expect(thrown(() => session.generate(prompt as never)).code, JSON.stringify(prompt)).toBe(kRange);
  }
});

test('loadModel', async () => {
  const load = (options: unknown): Promise<Error & { code?: string }> => rejection(banyan.loadModel(options as never));
  expect(await load({ modl: 'x' })).toMatchObject({ code: kType, message: 'Unknown option modl; did you mean model?' });
  expect(await load({})).toMatchObject({ code: kType, message: 'Expected string for model but received undefined of type undefined' });
  expect(await load({ model: '' })).toMatchObject({ code: kRange });
  expect(await load({ ...folder, device: 'gpu' })).toMatchObject({
    code: kRange,
    message: 'Expected one of auto, cpu, cuda for device but received "gpu" of type string',
  });
  expect(await load({ ...folder, threads: -1 })).toMatchObject({ code: kRange });
  expect(await load({ ...folder, onProgress: 5 })).toMatchObject({ code: kType });
  expect(await load({ model: `${folder.model}-not` })).toMatchObject({ name: 'BanyanError', code: 'BANYAN_FILE_NOT_FOUND' });
  expect(await load({ ...folder, tokenizer: '/no/tokenizer.json' })).toMatchObject({ code: 'BANYAN_FILE_NOT_FOUND' });
  expect((await load({ ...folder, temperatur: 1 })).stack).toContain('options.test.ts');
});

test('documents', async () => {
  expect(await rejection(model.compress(5 as never))).toMatchObject({ code: kType });
  expect(await rejection(model.compress([1, 'x'] as never))).toMatchObject({ code: kType });
  expect(await rejection(model.compress([1, 300]))).toMatchObject({ code: kRange });
  expect(await rejection(model.compress('x', { eagre: true } as never))).toMatchObject({ message: 'Unknown option eagre; did you mean eager?' });
  expect(await rejection(model.compress('x', { chunkSize: 0 }))).toMatchObject({ code: kRange });
  expect(await rejection(model.openDocument(''))).toMatchObject({ code: kRange });
  expect(await rejection(model.openDocument('/no/such/file'))).toMatchObject({ code: 'BANYAN_FILE_NOT_FOUND' });
  expect(await rejection(document.append(5 as never))).toMatchObject({ code: kType });
  expect(await rejection(document.save('/no/such/folder/file'))).toMatchObject({ code: 'BANYAN_FILE_NOT_FOUND' });
  expect(thrown(() => document.tokens(-1)).code).toBe(kRange);
});

test('sessions', async () => {
  expect(thrown(() => model.createSession({ sytem: 'x' } as never)).message).toBe('Unknown option sytem; did you mean system?');
  expect(thrown(() => model.createSession({ documents: document as never })).code).toBe(kType);
  expect(thrown(() => session.addDocument({} as never)).code).toBe(kType);
  expect(thrown(() => session.setDocuments([document, document])).code).toBe('BANYAN_INVALID_ARGUMENT');
  await using other = await banyan.loadModel(folder);
  const foreign = await other.compress('x');
  expect(thrown(() => session.addDocument(foreign)).code).toBe('BANYAN_INVALID_ARGUMENT');
});

test('BanyanError', () => {
  const cause = new Error('cause');
  const error = new banyan.BanyanError('BANYAN_IO', 'text', { cause, details: { a: 1 } });
  expect(error).toMatchObject({ name: 'BanyanError', code: 'BANYAN_IO', message: 'text', cause, details: { a: 1 } });
  expect(Object.keys(new banyan.BanyanError('BANYAN_IO', 'text'))).toEqual(['code']);
  expect(String(error)).toBe('BanyanError: text');
});
