// logits_llama: logits of node-llama-cpp after every token of some texts, read as a prompt or token by token. Argument: JSON {file, threads, texts, isStepped,
// out}. Writes float32 [tokens of all texts, vocabulary] to `out`.
import { closeSync, openSync, writeSync } from 'node:fs';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const { file, threads, texts, isStepped, out } = JSON.parse(process.argv[2]);
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file });
const longest = Math.max(...texts.map((ids) => ids.length));
const context = await model.createContext({
  contextSize: longest + 32,
  batchSize: 512,
  flashAttention: true,
  threads: { ideal: threads, min: threads },
});
const sequence = context.getSequence();
const vocab = model.fileInfo.metadata.llama.vocab_size;
const descriptor = openSync(out, 'w');
for (const ids of texts) {
  await sequence.clearHistory();
  // Each as soon as it is there: a map of all tokens of the vocabulary is large. Temperature 0 leaves logits as they are.
  const onTokenResult = (index, { next }) => {
    const row = new Float32Array(vocab).fill(Number.NaN);
    for (const [token, logit] of next.logits) row[token] = logit;
    writeSync(descriptor, new Uint8Array(row.buffer), 0, row.byteLength);
    next.logits.clear();
  };
  const asked = ids.map((id) => [id, { generateNext: { logits: true, options: { temperature: 0 } } }]);
  const step = isStepped ? 1 : asked.length;
  for (let at = 0; at < asked.length; at += step) await sequence.controlledEvaluate(asked.slice(at, at + step), { onTokenResult });
}
closeSync(descriptor);
console.log(JSON.stringify({ vocab }));
await llama.dispose();
