// long_llama: one long document read by node-llama-cpp (llama.cpp, CPU, flash attention) in a process of its own. Argument: JSON {file, threads, length,
// question, tokens, questions}. Prints one JSON line with the fields of bench/long/sample.ts; later questions keep the document's keys and values.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { idsOf } from './ids.mjs';

const { file, threads, length, question, tokens, questions } = JSON.parse(process.argv[2]);
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file });
const loadedBytes = process.memoryUsage().rss;
const context = await model.createContext({
  contextSize: length + question + tokens + 64,
  batchSize: 512,
  flashAttention: true,
  threads: { ideal: threads, min: threads },
});
const sequence = context.getSequence();
const vocab = model.fileInfo.metadata.llama.vocab_size;
const ids = (n, seed) => [...idsOf(n, vocab, seed)];

// Seconds to the first token, and tokens per second after it.
async function run(prompt, nTokens) {
  const from = performance.now();
  let first = 0;
  let n = 0;
  for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (n++ === 0) first = performance.now();
    if (n > nTokens) break;
  }
  return { seconds: (first - from) / 1000, tokensPerSecond: (1000 * nTokens) / (performance.now() - first) };
}
const middle = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const forget = (start) => sequence.eraseContextTokenRanges([{ start, end: sequence.nextTokenIndex }]);

await run(ids(question, 7), 1); // buffers and pages
let seed = 100;
// The order of bench/long/child.ts, but questions without a document come first: one sequence cannot keep the document meanwhile.
const bare = [];
for (let i = 1; i < questions; i++) {
  await sequence.clearHistory();
  bare.push((await run(ids(question, ++seed), 0)).seconds);
}
const bareSpeeds = [];
for (let i = 0; i < 3; i++) {
  await sequence.clearHistory();
  bareSpeeds.push((await run(ids(question, ++seed), tokens)).tokensPerSecond);
}

await sequence.clearHistory();
const { seconds: firstSeconds } = await run([...ids(length, 1), ...ids(question, ++seed)], 0);
const peakSoFar = () => process.resourceUsage().maxRSS * 1024;
const firstPeakBytes = peakSoFar();
const laterSeconds = [];
for (let i = 1; i < questions; i++) {
  await forget(length);
  laterSeconds.push((await run(ids(question, ++seed), 0)).seconds);
}
const speeds = [];
for (let i = 0; i < 3; i++) {
  await forget(length);
  speeds.push((await run(ids(question, ++seed), tokens)).tokensPerSecond);
}
const speed = { tokensPerSecond: middle(speeds), bareTokensPerSecond: middle(bareSpeeds) };
const sample = { bareSeconds: middle(bare), firstSeconds, laterSeconds, ...speed, loadedBytes, firstPeakBytes, peakBytes: peakSoFar() };
console.log(JSON.stringify({ ...sample, device: 'llama.cpp' }));
await llama.dispose();
