/** child: measures one method on one document through the addon and prints a Sample as one line of JSON. Its argument is a Request in JSON. */
import { native as loadNative } from '../../lib/binding.js';
import type { NativeGenerateResult } from '../../types/native.js';
import { greedyRequest } from '../peers/request.mjs';
import { kBosId, randomIds } from '../synthetic_model.js';
import { residentBytes, type Request, type Sample } from './sample.js';

const { model: path, adapters, options, length, prompt, tokens, threads } = JSON.parse(process.argv[2]!) as Request;
const native = loadNative();
const cancel = native.createCancel();
const model = await native.load({ model: path, adapters, device: 'cpu', threads }, cancel, null);
const loadedBytes = residentBytes().now;
const { vocabSize } = model.info;
const text = randomIds(length, vocabSize, 1);
const question = (seed: number): Int32Array => Int32Array.of(kBosId, ...randomIds(prompt - 1, vocabSize, seed));
const session = model.createSession(options);

async function generate(ids: Int32Array, maxTokens: number): Promise<NativeGenerateResult> {
  return session.generate(greedyRequest(ids, maxTokens), cancel, () => {});
}

async function cost<T>(work: () => Promise<T>): Promise<{ seconds: number; multiplyAdds: number; result: T }> {
  const [start, before] = [performance.now(), model.multiplyAdds()];
  const result = await work();
  return { seconds: (performance.now() - start) / 1000, multiplyAdds: model.multiplyAdds() - before, result };
}

const [firstQuestion, secondQuestion] = [question(2), question(3)];
const first = await cost(async () => {
  const document = model.createDocument(options.method === undefined ? {} : { method: options.method });
  await document.append(text, cancel, null);
  await document.complete(false, cancel, null);
  session.setDocuments([document]);
  return generate(firstQuestion, 1);
});
const second = await cost(() => generate(secondQuestion, 1));
// The same question twice more, so that both find the same things cached: what the longer answer costs above the shorter one is decoding.
const short = await cost(() => generate(secondQuestion, 1));
const long = await cost(() => generate(secondQuestion, 1 + tokens));

const sample: Sample = {
  firstSeconds: first.seconds,
  secondSeconds: second.seconds,
  tokensPerSecond: (1000 * tokens) / long.result.decodeMs,
  loadedBytes,
  peakBytes: residentBytes().peak,
  firstMultiplyAdds: first.multiplyAdds,
  secondMultiplyAdds: second.multiplyAdds,
  tokenMultiplyAdds: (long.multiplyAdds - short.multiplyAdds) / tokens,
  device: model.info.device,
};
console.log(JSON.stringify(sample));
await model.dispose();
