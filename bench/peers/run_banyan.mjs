// run_banyan: one measurement of Banyan in a process of its own. Argument: JSON {file, threads, prompt, decode, variant}. Prints one JSON line.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { idsOf } from './ids.mjs';
import { greedyRequest } from './request.mjs';

const { file, threads, prompt, decode, variant } = JSON.parse(process.argv[2]);
const native = createRequire(import.meta.url)('node-gyp-build')(fileURLToPath(new URL('../../', import.meta.url)));
const cancel = native.createCancel();
const began = performance.now();
const model = await native.load({ model: file, device: 'cpu', threads, ...(variant ? { cpuVariant: variant } : {}) }, cancel, null);
const loadMs = performance.now() - began;
const run = (session, ids, maxTokens) => session.generate(greedyRequest(ids, maxTokens), cancel, () => {});
const session = model.createSession({});
await run(session, idsOf(16, model.info.vocabSize, 7), 2); // buffers and pages
const first = performance.now() - began;
const { prefillMs, decodeMs } = await run(session, idsOf(prompt, model.info.vocabSize, 1), decode + 1);
const result = { loadMs, firstMs: first, prompt: (1000 * prompt) / prefillMs, decode: (1000 * decode) / decodeMs, device: model.info.device };
console.log(JSON.stringify({ ...result, rss: process.resourceUsage().maxRSS * 1024 }));
await model.dispose();
