// run_llama: one measurement of node-llama-cpp (llama.cpp, CPU, flash attention) in a process of its own. Argument and output as run_banyan.mjs.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { idsOf } from './ids.mjs';

const { file, threads, prompt, decode } = JSON.parse(process.argv[2]);
const began = performance.now();
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file });
const loadMs = performance.now() - began;
const context = await model.createContext({
  contextSize: prompt + decode + 32,
  batchSize: 512,
  flashAttention: true,
  threads: { ideal: threads, min: threads },
});
const sequence = context.getSequence();
const vocab = model.fileInfo.metadata.llama.vocab_size;
await sequence.evaluateWithoutGeneratingNewTokens([...idsOf(16, vocab, 7)]);
await sequence.clearHistory();
const first = performance.now() - began;
const ids = [...idsOf(prompt, vocab, 1)];
let from = performance.now();
await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, -1));
const promptMs = performance.now() - from;
let n = 0;
for await (const _ of sequence.evaluate(ids.slice(-1), { temperature: 0, yieldEogToken: true })) {
  if (n++ === 0) from = performance.now(); // the first one ends the prompt
  if (n > decode) break;
}
const decodeMs = performance.now() - from;
const result = { loadMs, firstMs: first, prompt: (1000 * (prompt - 1)) / promptMs, decode: (1000 * decode) / decodeMs, device: 'llama.cpp' };
console.log(JSON.stringify({ ...result, rss: process.resourceUsage().maxRSS * 1024 }));
await llama.dispose();
