/** Nested adapters and budgets of slots: what the SDK passes on, what a result tells, and what goes wrong. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { BanyanDocument, Model, RunResult, SessionOptions } from '../../lib/index.js';
import { banyan, rejection, thrown } from '../helpers/banyan.js';
import { kSmall, temporaryFolder, writeModel } from '../helpers/model.js';

const tokenKeys = { selection: 'token_keys', selection_layer: 0 };
const folder = writeModel(kSmall, { adapter: { semantics: 'nested', positions: 'banded', slot_budget: 50, ...tokenKeys } });
const paper = writeModel(kSmall);
const text = 'The tree grows towards the light, one ring a year. '.repeat(20); // about 1000 tokens in chunks of 64
let model: Model;
let document: BanyanDocument;

beforeAll(async () => {
  model = await banyan.loadModel(folder);
  document = await model.compress(text);
});
afterAll(() => model.dispose());

const ask = (options: SessionOptions = {}, of: Model = model): Promise<RunResult> =>
  of.createSession({ documents: [document], ...options }).generate('What grows?', { maxTokens: 4, temperature: 0, ignoreEos: true }).result;

test('the model tells its positions and budget', async () => {
  expect(model.info.tree).toMatchObject({ semantics: 'nested', positions: 'banded', slotBudget: 50, budgetUnit: 'chunk', lowerShared: true });
  await using other = await banyan.loadModel(paper);
  expect(other.info.tree).toMatchObject({ semantics: 'paper', positions: 'sum', slotBudget: 0, budgetUnit: 'chunk' });
});

test('the budget of the adapter, of a session, and none', async () => {
  const all = await ask({ slotBudget: 0 });
  expect(all.usage.slots).toBeGreaterThan(100);
  const own = await ask();
  expect(own.usage.slots).toBeLessThanOrEqual(50);
  expect(own.usage.slots).toBeGreaterThan(0);
  expect((await ask({ slotBudget: 100 })).usage.slots).toBeGreaterThan(50);
  // so many that nothing is left out
  expect([...(await ask({ slotBudget: 1_000_000 })).ids]).toEqual([...all.ids]);
});

test('groups: as many slots as asked for, told as spans of the document', async () => {
  const { retrieval, usage } = await ask({ slotBudget: 15, budgetUnit: 'group' });
  expect(usage.slots).toBe(15);
  const { opened, slots, nodes } = retrieval[0]!;
  expect(slots).toBe(15);
  expect(opened.length).toBeLessThanOrEqual(nodes);
  expect(opened.map(({ score }) => score)).toEqual(opened.map(({ score }) => score).sort((a, b) => b - a));
  for (const { tokens, chunk } of opened) {
    expect(tokens[0]).toBeGreaterThanOrEqual(chunk * kSmall.chunkSize);
    expect(tokens[1]).toBeLessThanOrEqual(Math.min((chunk + 1) * kSmall.chunkSize, document.info.tokens));
  }
});

test('compressing is all the work: a question encodes nothing, a saved document answers the same', async () => {
  const path = join(temporaryFolder(), 'nested.banyan');
  await document.save(path);
  const { nodes, nodesEncoded, slots } = document.info;
  expect([nodes, nodesEncoded]).toEqual([document.info.chunks, document.info.chunks]);
  await using other = await banyan.loadModel(folder);
  const opened = await other.openDocument(path);
  expect(opened.info).toMatchObject({ nodes, nodesEncoded, slots });
  const answer = await ask({ documents: [opened] }, other);
  expect(answer.ids).toEqual((await ask()).ids);
  expect(answer.usage.nodesEncoded).toBe(0);
  await using foreign = await banyan.loadModel(paper);
  expect(await rejection(foreign.openDocument(path))).toMatchObject({ code: 'BANYAN_MODEL_MISMATCH' });
});

describe('what goes wrong', () => {
  test.each<[string, SessionOptions, Record<string, unknown>]>([
    ['a negative budget', { slotBudget: -1 }, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }],
    ['half a slot', { slotBudget: 1.5 }, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }],
    ['a budget in words', { slotBudget: '9' as never }, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }],
    ['an unknown unit', { budgetUnit: 'slot' as never }, { name: 'RangeError', message: /one of chunk, group/ }],
    ['another method', { slotBudget: 9, method: 'full' }, { name: 'BanyanError', code: 'BANYAN_INVALID_ARGUMENT', message: /not to full/ }],
    ['a unit of another method', { budgetUnit: 'chunk', method: 'streaming' }, { code: 'BANYAN_INVALID_ARGUMENT', message: /^budgetUnit/ }],
    ['a slip of the pen', { slotbudget: 9 } as SessionOptions, { name: 'TypeError', message: /did you mean slotBudget/ }],
  ])('%s', (_, options, { message, ...expected }) => {
    const error = thrown(() => model.createSession(options));
    expect(error).toMatchObject(expected);
    if (message instanceof RegExp) expect(error.message).toMatch(message);
  });

  test('groups of an adapter that cannot rank them', async () => {
    await using other = await banyan.loadModel(paper);
    expect(thrown(() => other.createSession({ budgetUnit: 'group' }))).toMatchObject({ code: 'BANYAN_INVALID_ARGUMENT' });
    expect(other.createSession({ slotBudget: 9 }).method).toBe('sharedllm'); // chunks are ranked in any semantics
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['unknown positions', { semantics: 'nested', positions: 'free' }, /positions/],
    ['banded positions of another semantics', { positions: 'banded' }, /need the semantics nested/],
    ['a budget without scores', { slot_budget: 9, do_retrieval: false }, /slot_budget needs scores/],
    ['groups by cosine', { semantics: 'nested', slot_budget: 9, budget_unit: 'group' }, /budget_unit "group" needs/],
    ['LoRA without a rank', { semantics: 'nested', lower: 'lora', lora_alpha: 4 }, /lora_rank/],
  ])('an adapter with %s', async (_, adapter, message) => {
    const error = await rejection(banyan.loadModel(writeModel(kSmall, { adapter })));
    expect(error).toMatchObject({ code: 'BANYAN_BAD_ADAPTER', message: expect.stringMatching(message) });
  });

  test('other semantics for a nested adapter', async () => {
    expect(await rejection(banyan.loadModel({ ...folder, semantics: 'paper' }))).toMatchObject({ code: 'BANYAN_INVALID_ARGUMENT' });
  });
});
