/** Lives and deaths: dispose, children, garbage, workers, process exit, both module systems. */
import { join } from 'node:path';

import { beforeAll, describe, expect, test } from 'vitest';

import type { BanyanDocument, Model, Session } from '../../lib/index.js';
import { banyan, kCommonJs, kPackage, rejection, thrown } from '../helpers/banyan.js';
import { runNode } from '../helpers/child.js';
import { kSlow, kSmall, temporaryFolder, writeModel } from '../helpers/model.js';

const small = writeModel(kSmall);
const slow = writeModel(kSlow);
const quiet = { ignoreEos: true } as const;
const ids = (count: number): Int32Array => Int32Array.from({ length: count }, (_, i) => 3 + (i % 256));

describe('dispose', () => {
  test('twice is once, at the same time too', async () => {
    const model = await banyan.loadModel(small);
    const document = await model.compress('text');
    const session = model.createSession();
    await Promise.all([document.dispose(), document.dispose(), session.dispose(), session.dispose()]);
    await Promise.all([model.dispose(), model.dispose()]);
    await Promise.all([model.dispose(), document.dispose(), session.dispose()]);
    expect([model.disposed, document.disposed, session.disposed]).toEqual([true, true, true]);
    expect(model.info.architecture).toBe('llama');
  });

  // Every member that needs the engine.
  const uses: [string, (model: Model, document: BanyanDocument, session: Session) => unknown][] = [
    ['compress', (model) => model.compress('x')],
    ['openDocument', (model) => model.openDocument('x')],
    ['createSession', (model) => model.createSession()],
    ['tokenize', (model) => model.tokenize('x')],
    ['detokenize', (model) => model.detokenize([5])],
    ['document.info', (_, document) => document.info],
    ['document.append', (_, document) => document.append('x')],
    ['document.complete', (_, document) => document.complete()],
    ['document.save', (_, document) => document.save('x')],
    ['document.tokens', (_, document) => document.tokens()],
    ['document.text', (_, document) => document.text()],
    ['session.generate', (_, __, session) => session.generate('x')],
    ['session.addDocument', (_, document, session) => session.addDocument(document)],
    ['session.setDocuments', (_, __, session) => session.setDocuments([])],
    ['session.reset', (_, __, session) => session.reset()],
  ];
  test.each(uses)('%s after the model has gone', async (_, use) => {
    const model = await banyan.loadModel(small);
    const document = await model.compress('text');
    const session = model.createSession();
    await model.dispose();
    const error = await rejection((async () => use(model, document, session))());
    expect(error).toMatchObject({ name: 'BanyanError', code: 'BANYAN_DISPOSED' });
  });

  test('a model ends what its children are doing', async () => {
    const model = await banyan.loadModel(slow);
    const document = await model.compress(ids(3000));
    const jobs = [
      model.compress(ids(400_000)),
      document.append(ids(400_000)),
      document.complete(),
      document.save(join(temporaryFolder(), 'x')),
      model.createSession().generate(ids(9000)).result,
      model.createSession().generate(ids(3), { maxTokens: 9000, ...quiet, onAbort: 'return' }).result,
    ];
    const session = model.createSession({ documents: [document] });
    const run = session.generate(ids(3), { maxTokens: 9000, ...quiet });
    jobs.push(session.generate(ids(3)).result as Promise<never>);
    const errors = Promise.all(jobs.map((job) => rejection(job)));
    const iterated = rejection(
      (async () => {
        for await (const event of run) void event;
      })(),
    );
    await new Promise((resolve) => setTimeout(resolve, 60));
    const begin = performance.now();
    await model.dispose();
    expect(performance.now() - begin).toBeLessThan(2000);
    for (const error of [...(await errors), await iterated]) expect(error).toMatchObject({ code: 'BANYAN_DISPOSED' });
  });

  test('a session ends its runs, the model and the documents go on', async () => {
    await using model = await banyan.loadModel(small);
    const document = await model.compress('text');
    const session = model.createSession({ documents: [document] });
    const runs = [session.generate('x', { maxTokens: 900, ...quiet, onAbort: 'return' }), session.generate('y')];
    await new Promise((resolve) => setTimeout(resolve, 5));
    await session.dispose();
    for (const run of runs) expect(await rejection(run.result)).toMatchObject({ code: 'BANYAN_DISPOSED', message: 'The session was disposed' });
    expect(thrown(() => session.generate('x')).code).toBe('BANYAN_DISPOSED');
    expect((await model.createSession({ documents: [document] }).generate('x', { maxTokens: 2, ...quiet }).result).ids).toHaveLength(2);
  });

  test('a document ends its jobs; sessions that list it cannot generate until it is removed', async () => {
    await using model = await banyan.loadModel(slow);
    const document = await model.compress(ids(2000));
    const session = model.createSession({ documents: [document] });
    const appended = rejection(document.append(ids(400_000)));
    await new Promise((resolve) => setTimeout(resolve, 30));
    await document.dispose();
    expect(await appended).toMatchObject({ code: 'BANYAN_DISPOSED', message: 'The document was disposed' });
    expect(await rejection(session.generate(ids(2)).result)).toMatchObject({ code: 'BANYAN_DISPOSED' });
    expect(thrown(() => model.createSession({ documents: [document] })).code).toBe('BANYAN_DISPOSED');
    session.removeDocument(document);
    expect((await session.generate(ids(2), { maxTokens: 1, ...quiet }).result).ids).toHaveLength(1);
  });

  test('await using', async () => {
    let kept: Model;
    {
      await using model = await banyan.loadModel(small);
      await using document = await model.compress('x');
      await using session = model.createSession({ documents: [document] });
      await session.generate('x', { maxTokens: 1 }).result;
      kept = model;
    }
    expect(kept.disposed).toBe(true);
  });

  test('a spoilt load leaves nothing behind', async () => {
    const controller = new AbortController();
    const loads = Array.from({ length: 5 }, () => rejection(banyan.loadModel({ ...slow, signal: controller.signal })));
    setImmediate(() => controller.abort());
    for (const error of await Promise.all(loads)) expect(error.name).toBe('AbortError');
  });
});

test('nobody needs to listen: no unhandled rejections', async () => {
  const unhandled: unknown[] = [];
  const listener = (reason: unknown): void => void unhandled.push(reason);
  process.on('unhandledRejection', listener);
  await using model = await banyan.loadModel(small);
  const session = model.createSession();
  session.generate('x'.repeat(5000)); // overflow, neither iterated nor awaited
  const iterated = session.generate('x'.repeat(5000));
  await rejection(
    (async () => {
      for await (const event of iterated) void event;
    })(),
  );
  await rejection(session.generate('x'.repeat(5000)).result);
  await session.generate('x', { maxTokens: 1 }).result;
  await new Promise((resolve) => setTimeout(resolve, 20));
  process.off('unhandledRejection', listener);
  expect(unhandled).toEqual([]);
});

describe('in a process of its own', () => {
  const prelude = `
    import { loadModel } from ${JSON.stringify(kPackage.href)};
    const ids = (count) => Int32Array.from({ length: count }, (_, i) => 3 + (i % 256));
    const load = () => loadModel(${JSON.stringify(slow)});`;
  const busy = `
    const model = await load();
    const document = await model.compress(ids(3000));
    const session = model.createSession({ documents: [document] });
    const run = session.generate(ids(5), { maxTokens: 9000, ignoreEos: true });
    model.compress(ids(400000)).catch(() => {});
    loadModel(${JSON.stringify(slow)}).catch(() => {});`;

  const scripts: [string, string, { code: number; stdout: string }][] = [
    ['process.exit() in a token handler', `${busy} run.on('token', () => process.exit(7));`, { code: 7, stdout: '' }],
    ['process.exit() in the loop', `${busy} for await (const event of run) if (event.type === 'token') process.exit(7);`, { code: 7, stdout: '' }],
    [
      'process.exit() in a progress callback',
      `await loadModel({ ...${JSON.stringify(slow)}, onProgress: () => process.exit(7) });`,
      { code: 7, stdout: '' },
    ],
    ['process.exit() while loading', `load(); setImmediate(() => process.exit(7));`, { code: 7, stdout: '' }],
    ['an uncaught exception in a handler of the user', `${busy} setTimeout(() => { throw new Error('mine'); }, 50);`, { code: 1, stdout: '' }],
    [
      'natural end with live objects',
      `const model = await load(); const document = await model.compress(ids(3000)); const session = model.createSession({ documents: [document] });
       await session.generate(ids(5), { maxTokens: 3, ignoreEos: true }).result; console.log('end');`,
      { code: 0, stdout: 'end\n' },
    ],
    [
      'jobs keep the process alive until they are done',
      `const model = await load(); model.createSession().generate(ids(5), { maxTokens: 20, ignoreEos: true }).result.then(({ ids }) => console.log(ids.length));`,
      { code: 0, stdout: '20\n' },
    ],
    ['a load keeps the process alive', `load().then((model) => console.log(model.info.layers));`, { code: 0, stdout: '8\n' }],
    [
      'dispose keeps the process alive',
      `${busy} run.result.catch((error) => console.log(error.code)); model.dispose().then(() => console.log('end'));`,
      { code: 0, stdout: 'BANYAN_DISPOSED\nend\n' },
    ],
    [
      'garbage collection of everything',
      `{ const model = await load(); await model.createSession({ documents: [await model.compress(ids(3000))] }).generate(ids(5), { maxTokens: 3 }).result; }
       for (let i = 0; i < 20; i++) { await new Promise((resolve) => setTimeout(resolve, 5)); gc(); } console.log('end');`,
      { code: 0, stdout: 'end\n' },
    ],
    [
      'a worker that ends by itself, and the addon in several threads',
      `import { Worker } from 'node:worker_threads';
       const source = \`import('${kPackage.href}').then(async ({ loadModel }) => {
         const model = await loadModel(${JSON.stringify(small)});
         const { ids } = await model.createSession().generate(Int32Array.of(5), { maxTokens: 20, ignoreEos: true }).result;
         (await import('node:worker_threads')).parentPort.postMessage(ids.length);
       })\`;
       const workers = Array.from({ length: 3 }, () => new Worker(source, { eval: true }));
       await Promise.all(workers.map((worker) => new Promise((resolve) => { worker.on('message', (n) => console.log(n)); worker.on('exit', resolve); })));`,
      { code: 0, stdout: '20\n20\n20\n' },
    ],
    [
      'workers terminated while they load, compress and generate',
      `import { Worker } from 'node:worker_threads';
       const source = \`import('${kPackage.href}').then(async ({ loadModel }) => {
         const { parentPort } = await import('node:worker_threads');
         const ids = (count) => Int32Array.from({ length: count }, (_, i) => 3 + (i % 256));
         parentPort.postMessage('load');
         const model = await loadModel(${JSON.stringify(slow)});
         const document = await model.compress(ids(3000));
         parentPort.postMessage('ready');
         model.compress(ids(400000)).catch(() => {});
         loadModel(${JSON.stringify(slow)}).catch(() => {});
         const run = model.createSession({ documents: [document] }).generate(ids(5), { maxTokens: 9000, ignoreEos: true });
         run.on('token', () => {});
         for await (const event of run) if (event.type === 'token') parentPort.postMessage('token');
       })\`;
       let tokens = 0;
       for (let i = 0; i < 12; i++) {
         const worker = new Worker(source, { eval: true });
         const until = ['load', 'ready', 'token'][i % 3];
         await new Promise((resolve) => worker.on('message', (message) => message === until && resolve()));
         await new Promise((resolve) => setTimeout(resolve, i));
         await worker.terminate();
       }
       console.log('end');`,
      { code: 0, stdout: 'end\n' },
    ],
    [
      'process.exit() while workers are busy',
      `import { Worker } from 'node:worker_threads';
       const source = \`import('${kPackage.href}').then(async ({ loadModel }) => {
         const model = await loadModel(${JSON.stringify(slow)});
         (await import('node:worker_threads')).parentPort.postMessage('ready');
         await model.createSession().generate(Int32Array.of(5), { maxTokens: 9000, ignoreEos: true }).result;
       })\`;
       const workers = Array.from({ length: 2 }, () => new Worker(source, { eval: true }));
       await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on('message', resolve))));
       process.exit(7);`,
      { code: 7, stdout: '' },
    ],
  ];

  test.each(scripts)('%s', async (_, script, expected) => {
    const body = script.includes('gc()')
      ? `import v8 from 'node:v8'; v8.setFlagsFromString('--expose-gc'); import vm from 'node:vm'; const gc = vm.runInNewContext('gc'); ${script}`
      : script;
    const { code, signal, stdout, stderr } = await runNode(`${prelude}\n${body}`);
    expect({ code, signal, stdout, stderr: expected.code === 1 ? '' : stderr }).toEqual({ ...expected, signal: null, stderr: '' });
  });

  test('process.exit() in a token handler, again and again', async () => {
    for (let i = 0; i < 5; i++) {
      const { code, signal } = await runNode(`${prelude} ${busy} let n = 0; run.on('token', () => { if (n++ === ${i}) process.exit(7); });`);
      expect({ code, signal }).toEqual({ code: 7, signal: null });
    }
  });
});

describe('module systems', () => {
  let names: string[];
  beforeAll(() => {
    names = Object.keys(banyan).sort();
  });

  test('require', async () => {
    const script = `const banyan = require(${JSON.stringify(kCommonJs.pathname)});
      console.log(Object.keys(banyan).sort().join());
      banyan.loadModel(${JSON.stringify(small)}).then(async (model) => { console.log(model.info.layers); await model[Symbol.asyncDispose](); });`;
    expect(await runNode(script, 'commonjs')).toEqual({ code: 0, signal: null, stdout: `${names.join()}\n3\n`, stderr: '' });
  });

  test('import and require in one process', async () => {
    const script = `import { createRequire } from 'node:module';
      const [a, b] = [await import(${JSON.stringify(kPackage.href)}), createRequire(import.meta.url)(${JSON.stringify(kCommonJs.pathname)})];
      for (const banyan of [a, b]) { await using model = await banyan.loadModel(${JSON.stringify(small)}); console.log(model.info.layers); }`.replace(
      'await using model',
      'const model', // Node 20 cannot parse it
    );
    expect(await runNode(script)).toEqual({ code: 0, signal: null, stdout: '3\n3\n', stderr: '' });
  });

  test('a missing addon says what was tried and what to do', async () => {
    const folder = temporaryFolder();
    const script = `const fs = require('node:fs'); const path = require('node:path');
      fs.mkdirSync(path.join(${JSON.stringify(folder)}, 'dist'));
      fs.symlinkSync(${JSON.stringify(new URL('../../node_modules', import.meta.url).pathname)}, path.join(${JSON.stringify(folder)}, 'node_modules'));
      fs.copyFileSync(${JSON.stringify(kCommonJs.pathname)}, path.join(${JSON.stringify(folder)}, 'dist', 'index.cjs'));
      const banyan = require(path.join(${JSON.stringify(folder)}, 'dist', 'index.cjs'));
      banyan.loadModel({ model: 'x' }).catch((error) => console.log(error.name, error.code, error.message));`;
    const { stdout, code } = await runNode(script, 'commonjs');
    expect(code).toBe(0);
    expect(stdout).toContain('BanyanError BANYAN_NATIVE_LOAD_FAILED');
    expect(stdout).toContain(join(folder, 'prebuilds'));
    expect(stdout).toContain('npm run build:native');
  });
});
