/** The binary exports what types/native.d.ts declares, and nothing else. */
import { readFileSync } from 'node:fs';

import ts from 'typescript';
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { NativeModel } from '../../types/native.js';
import { addon, thrown } from '../helpers/banyan.js';
import { kSmall, writeModel } from '../helpers/model.js';

// Names of the members of every interface.
function declaredMembers(): Map<string, string[]> {
  const path = new URL('../../types/native.d.ts', import.meta.url).pathname;
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest);
  const members = new Map<string, string[]>();
  for (const statement of source.statements) {
    if (!ts.isInterfaceDeclaration(statement)) continue;
    members.set(statement.name.text, statement.members.map((member) => (member.name as ts.Identifier).text).sort());
  }
  return members;
}

const declared = declaredMembers();
const native = addon();
let model: NativeModel;

beforeAll(async () => {
  const { model: path, adapter } = writeModel(kSmall);
  model = await native.load({ model: path, adapters: [adapter] }, native.createCancel(), null);
});
afterAll(() => model.dispose());

const membersOf = (object: object): string[] =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(object))
    .filter((name) => name !== 'constructor')
    .sort();

test('exports', () => {
  expect(Object.keys(native).sort()).toEqual(declared.get('Native'));
});

test('members of the classes', () => {
  expect(membersOf(native.createCancel())).toEqual(declared.get('NativeCancel'));
  expect(membersOf(model)).toEqual(declared.get('NativeModel'));
  expect(membersOf(model.createDocument({}))).toEqual(declared.get('NativeDocument'));
  expect(membersOf(model.createSession({}))).toEqual(declared.get('NativeSession'));
});

test('results', async () => {
  expect(Object.keys(model.info).sort()).toEqual(declared.get('NativeModelInfo'));
  const document = model.createDocument({});
  expect(Object.keys(document.info()).sort()).toEqual(declared.get('NativeDocumentInfo'));
  await document.append(new Int32Array(100), native.createCancel(), null);
  const session = model.createSession({});
  session.setDocuments([document]);
  const request = {
    ids: Int32Array.of(3, 4),
    maxTokens: 2,
    stopIds: new Int32Array(0),
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    frequencyPenalty: 0,
    presencePenalty: 0,
    penaltyWindow: 64,
    seed: 0,
    biasIds: new Int32Array(0),
    biasValues: new Float32Array(0),
  };
  const events: object[] = [];
  const result = await session.generate(request, native.createCancel(), (event) => events.push(event));
  expect(Object.keys(result).sort()).toEqual(declared.get('NativeGenerateResult'));
  const retrieval = events.find((event) => (event as { type: string }).type === 'retrieval') ?? {};
  expect(
    Object.keys(retrieval)
      .filter((name) => name !== 'type')
      .sort(),
  ).toEqual(declared.get('NativeRetrieval'));
  const trace = await session.trace({ ids: Int32Array.of(3, 4), maxNewTokens: 1, recompute: false }, native.createCancel());
  expect(Object.keys(trace).sort()).toEqual(declared.get('NativeTrace'));
});

test('foreign receivers and arguments are TypeErrors', () => {
  const document = model.createDocument({});
  const cancel = native.createCancel();
  const wrong = [
    () => document.info.call({} as never),
    () => document.info.call(cancel as never),
    () => document.info.call(Object.create(document) as never),
    () => new (model.constructor as new () => NativeModel)().info,
    () => native.load({ model: 'x' }, {} as never, null),
    () => native.load({} as never, cancel, null),
    () => native.load({ model: 'x' }, cancel, 5 as never),
    () => document.append([1, 2] as never, cancel, null),
    () => document.append(new Float32Array(2) as never, cancel, null),
    () => document.append(new Int32Array(2), model as never, null),
    () => model.createSession({}).setDocuments([cancel as never]),
    () => model.createSession({}).setDocuments({} as never),
    () => document.save('x', { a: 5 } as never, cancel, null),
    () => model.createDocument(null as never),
  ];
  for (const call of wrong) expect(thrown(call), String(call)).toBeInstanceOf(TypeError);
  expect(thrown(() => model.createDocument({ chunkSize: -1 }))).toMatchObject({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
});

test('a callback that throws ends its job and rejects it', async () => {
  const document = model.createDocument({});
  const cancel = native.createCancel();
  const reason = new Error('mine');
  const job = document.append(new Int32Array(5000), cancel, () => {
    throw reason;
  });
  await expect(job).rejects.toBe(reason);
  expect(cancel.cancelled).toBe(true);
});
