// start_llama: from the start of the process to the first token of a prompt of 16 ids by node-llama-cpp. Argument and output as start_banyan.mjs.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { idsOf } from './ids.mjs';

const { file, threads, began } = JSON.parse(process.argv[2]);
const clock = () => performance.timeOrigin + performance.now() - began;
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file });
const loadMs = clock();
const context = await model.createContext({ contextSize: 512, flashAttention: true, threads: { ideal: threads, min: threads } });
const ids = [...idsOf(16, model.fileInfo.metadata.llama.vocab_size, 1)];
for await (const _ of context.getSequence().evaluate(ids, { temperature: 0, yieldEogToken: true })) break;
console.log(JSON.stringify({ loadSeconds: loadMs / 1000, startSeconds: clock() / 1000 }));
await llama.dispose();
