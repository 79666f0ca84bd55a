// greedy: 200 greedy tokens of a small real model (stories260K) by Banyan and by node-llama-cpp (llama.cpp, CPU), for two prompts.
// Run: npm run build:native && npm --prefix bench/peers install && npm --prefix bench/peers run greedy
// Exit code 0: equal, or skipped with a reason; 1: they differ.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const nTokens = 200;

function skip(reason) {
  console.log(`skipped: ${reason}`);
  process.exit(0);
}

const folder = [`${root}shared/models/`, `${root}../shared/models/`].find((path) => existsSync(`${path}stories260K-f32.gguf`));
if (folder === undefined) skip('../shared/models/stories260K-f32.gguf is not there');
const file = `${folder}stories260K-f32.gguf`;

let peer;
try {
  peer = await import('node-llama-cpp');
} catch (error) {
  skip(`node-llama-cpp cannot be loaded (npm --prefix bench/peers install): ${String(error.message).split('\n')[0]}`);
}

async function banyanGreedy(prompt) {
  const native = createRequire(import.meta.url)('node-gyp-build')(root);
  const cancel = native.createCancel();
  const model = await native.load({ model: file, device: 'cpu', kvType: 'f32' }, cancel, null);
  const trace = await model.createSession({}).trace({ ids: Int32Array.from(prompt), maxNewTokens: nTokens, recompute: false }, cancel);
  await model.dispose();
  return [...trace.greedy];
}

async function peerGreedy(prompt) {
  const llama = await peer.getLlama({ gpu: false, build: 'never', logLevel: peer.LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: 512, threads: 1 }); // its threads spin: more than the free cores never end
  const sequence = context.getSequence();
  const tokens = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    tokens.push(Number(token));
    if (tokens.length === nTokens) break;
  }
  await llama.dispose();
  return tokens;
}

const prompts = JSON.parse(readFileSync(`${folder}stories260K-expected.json`, 'utf8')).greedy;
let isEqual = true;
for (const [name, { prompt_tokens: prompt }] of Object.entries(prompts)) {
  const ours = await banyanGreedy(prompt);
  let theirs;
  try {
    theirs = await peerGreedy(prompt);
  } catch (error) {
    skip(`node-llama-cpp does not run here: ${String(error.message).split('\n')[0]}`);
  }
  const first = ours.findIndex((token, i) => token !== theirs[i]);
  const same = first === -1 && ours.length === theirs.length;
  isEqual &&= same;
  console.log(`${name}: ${same ? `the same ${ours.length} tokens` : `differs at token ${first === -1 ? theirs.length : first}`}`);
}
process.exitCode = isEqual ? 0 : 1;
