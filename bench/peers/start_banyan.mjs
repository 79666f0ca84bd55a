// start_banyan: from the start of the process to the first token of a prompt of 16 ids. Argument: JSON {file, threads, began}, began: the parent's clock
// (milliseconds since 1970) right before. Prints one JSON line.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { idsOf } from './ids.mjs';
import { greedyRequest } from './request.mjs';

const { file, threads, began } = JSON.parse(process.argv[2]);
const native = createRequire(import.meta.url)('node-gyp-build')(fileURLToPath(new URL('../../', import.meta.url)));
const cancel = native.createCancel();
const clock = () => performance.timeOrigin + performance.now() - began;
const model = await native.load({ model: file, device: 'cpu', threads }, cancel, null);
const loadMs = clock();
await model.createSession({}).generate(greedyRequest(idsOf(16, model.info.vocabSize, 1), 1), cancel, () => {});
console.log(JSON.stringify({ loadSeconds: loadMs / 1000, startSeconds: clock() / 1000 }));
await model.dispose();
