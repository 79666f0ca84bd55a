/** child: measures Banyan on one document through the addon, in a process of its own, and prints a Sample. Its argument is a Request in JSON. */
import { readFileSync } from 'node:fs';

import { native as loadNative } from '../../lib/binding.js';
import type { NativeDocument, NativeGenerateResult, NativeSession } from '../../types/native.js';
import { residentBytes } from '../methods/sample.js';
import { idsOf } from '../peers/ids.mjs';
import { greedyRequest } from '../peers/request.mjs';
import { spread } from '../statistics.js';
import type { Request, Sample } from './sample.js';

const request = JSON.parse(process.argv[2]!) as Request;
const { model: path, adapter, part, length, question, tokens, questions, seconds: longest, threads, file, kvType, adapterType } = request;
const native = loadNative();
const cancel = native.createCancel();
const model = await native.load({ model: path, adapters: [adapter], device: 'cpu', threads, kvType, adapterType }, cancel, null);
const { vocabSize } = model.info;
const text = idsOf(length, vocabSize, 1);
const kDecodings = 9; // pairs, of which the median counts: one of three moved by 4 % from process to process

async function generate(session: NativeSession, seed: number, maxTokens: number): Promise<NativeGenerateResult> {
  return session.generate(greedyRequest(idsOf(question, vocabSize, seed), maxTokens), cancel, () => {});
}

interface Cost {
  seconds: number;
  multiplyAdds: number;
}

async function costOf(work: () => Promise<unknown>): Promise<Cost> {
  const [start, before] = [performance.now(), model.multiplyAdds()];
  await work();
  return { seconds: (performance.now() - start) / 1000, multiplyAdds: model.multiplyAdds() - before };
}

// The first token of a question that nobody asked before.
let lastSeed = 100;
const ask = (session: NativeSession): Promise<Cost> => costOf(() => generate(session, ++lastSeed, 1));

async function decodingSpeed(session: NativeSession): Promise<number> {
  const { decodeMs } = await generate(session, ++lastSeed, 1 + tokens);
  return (1000 * tokens) / decodeMs;
}

// Where Linux tells it; elsewhere they count as memory.
function mappedBytes(): number {
  if (process.platform !== 'linux') return 0;
  return 1024 * Number(/^RssFile:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
}

// Mapped pages stay, so at the peak there were no more of them than now.
const peakBytes = (): number => residentBytes().peak - mappedBytes();

async function read(): Promise<NativeDocument> {
  const document = model.createDocument({});
  await document.append(text, cancel, null);
  await document.complete(part === 'prepare' || part === 'eager', cancel, null);
  return document;
}

async function measure(): Promise<Sample> {
  const loadedBytes = residentBytes().now - mappedBytes();
  const bare = model.createSession({});
  await generate(bare, 7, 2); // buffers and pages

  const session = model.createSession({});
  const sample: Sample = { bareSeconds: 0, bareTokensPerSecond: 0, loadedBytes, device: model.info.device };
  let document: NativeDocument | undefined;
  const arrival = await costOf(async () => {
    document = part === 'opened' ? await model.openDocument(file, cancel, null) : await read();
    session.setDocuments([document]);
    if (part === 'lazy') await ask(session);
  });
  if (part === 'opened') sample.openSeconds = arrival.seconds;
  if (part === 'lazy') {
    sample.firstSeconds = arrival.seconds;
    sample.firstMultiplyAdds = arrival.multiplyAdds;
    sample.firstPeakBytes = peakBytes();
  }
  // With and without the document in turns, so that a busy minute does not hit one of them only.
  const [asked, bareAsked]: [Cost[], Cost[]] = [[], []];
  for (let i = part === 'lazy' ? 1 : 0; i < questions; i++) {
    if (i >= 2 && performance.now() > 1000 * longest) break;
    asked.push(await ask(session));
    bareAsked.push(await ask(bare));
  }
  sample[part === 'lazy' ? 'laterSeconds' : part === 'eager' ? 'eagerSeconds' : 'openedSeconds'] = asked.map(({ seconds }) => seconds);
  sample.bareSeconds = spread(bareAsked.map(({ seconds }) => seconds)).median;
  const work = (costs: readonly Cost[]): number => spread(costs.map(({ multiplyAdds }) => multiplyAdds)).median;
  sample.askedWork = work(asked) / work(bareAsked);
  const [speeds, bareSpeeds]: [number[], number[]] = [[], []];
  for (let i = 0; i < kDecodings; i++) {
    speeds.push(await decodingSpeed(session));
    bareSpeeds.push(await decodingSpeed(bare));
  }
  sample.tokensPerSecond = spread(speeds).median;
  sample.bareTokensPerSecond = spread(bareSpeeds).median;
  sample.decodingShare = spread(speeds.map((speed, i) => speed / bareSpeeds[i]!)).median;
  sample.mappedBytes = mappedBytes();
  sample.peakBytes = peakBytes();
  sample.treeBytes = document!.info().bytes;
  return sample;
}

if (part === 'prepare') {
  const document = await read();
  await document.save(file, {}, cancel, null);
  console.log(JSON.stringify({ device: model.info.device }));
} else {
  console.log(JSON.stringify(await measure()));
}
await model.dispose();
