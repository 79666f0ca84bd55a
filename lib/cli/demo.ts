/** demo: reads a long text with the small model of this package, asks it, and shows what that took. */
import type { BanyanDocument, Model, RunResult } from '../index.js';
import { answer, passagesOf, type Passage } from './answer.js';
import { demoText, plant } from './demoText.js';
import { bytes, count, duration, plural, shorten, table } from './format.js';
import { interruptible } from './interrupt.js';
import { openModel } from './models.js';
import { createProgress, type Progress } from './progress.js';
import type { DemoFlags } from './options.js';

/** What the demo plants in the text; the model must find the last word there. */
const kFact = { sentence: 'The code word of falcon is violet.', question: 'The code word of falcon is', answer: 'violet' } as const;
const kFreeQuestion = 'The package is';
const kPassages = 5;
const kShown = 64; // characters of a passage
const kBefore = 12; // of these before the planted sentence

interface Demo {
  model: Model;
  document: BanyanDocument;
  flags: DemoFlags;
  signal: AbortSignal;
  progress: Progress;
  say(text: string): void;
}

interface Asked {
  kind: 'planted' | 'free';
  question: string;
  result: RunResult;
  passages: Passage[];
  /** Whether the answer begins with the planted word; null where nothing is right or wrong. */
  isRight: boolean | null;
}

interface Costs {
  loadMs: number;
  compressMs: number;
  peakMemoryBytes: number;
}

export async function demo(paths: readonly string[], flags: DemoFlags): Promise<void> {
  const progress = createProgress();
  const say = (text: string): void => void (flags.json || process.stdout.write(text));
  await interruptible(async (signal) => {
    const source = demoText(paths);
    const text = flags.plant ? plant(source.text, kFact.sentence) : source.text;
    say(`Document   ${source.title}: ${plural(source.files, 'file')}, ${bytes(Buffer.byteLength(text))}\n`);
    if (flags.plant) say(`Planted    "${kFact.sentence}" as a paragraph of its own in the middle\n`);

    const began = performance.now();
    await using model = await openModel(flags, signal, progress);
    const loaded = performance.now();
    const { parameters, window, device } = model.info;
    say(`Model      ${(parameters / 1e6).toFixed(1)} M parameters, window ${count(window)} tokens, ${device}\n\n`);

    const onProgress = ({ done, total }: { done: number; total: number }): void => progress.update('compressing', done, total);
    const document = await model.compress(text, { title: source.title, signal, onProgress });
    progress.end();
    const compressMs = performance.now() - loaded;

    const run: Demo = { model, document, flags, signal, progress, say };
    const asked: Asked[] = [];
    if (flags.plant) asked.push(await ask(run, 'planted', kFact.question));
    asked.push(await ask(run, 'free', flags.question ?? kFreeQuestion));

    const costs = { loadMs: loaded - began, compressMs, peakMemoryBytes: process.resourceUsage().maxRSS * 1024 };
    if (flags.json) process.stdout.write(`${JSON.stringify(record(run, asked, costs))}\n`);
    else say(summary(run, asked, costs));
  });
}

async function ask({ model, document, flags, signal, progress, say }: Demo, kind: Asked['kind'], question: string): Promise<Asked> {
  const session = model.createSession({ documents: [document], template: null }); // the question is a text to go on with
  say(kind === 'planted' ? 'Asked about the planted sentence\n' : 'A free question (a model this small writes words, not knowledge)\n');
  let isBegun = false;
  const onText = (text: string): void => {
    if (!isBegun) say(`  ${question}`); // not before the bars are gone
    isBegun = true;
    say(text.replace(/\s+/g, ' '));
  };
  // What the model writes after the sentence it was asked to end has nothing to do with the question.
  const result = await answer(session, question, { stop: ['.', '\n'], ...flags }, signal, progress, onText);
  say('\n');
  const isRight = kind === 'planted' ? result.text.trim().startsWith(kFact.answer) : null;
  if (isRight !== null) say(`  ${isRight ? 'right' : 'wrong'}: the text says "${kFact.answer}"\n`);
  const passages = await passagesOf(result, kPassages);
  if (passages.length > 0) say(`  passages opened first\n${passages.map(passageLine).join('')}`);
  say('\n');
  return { kind, question, result, passages, isRight };
}

function passageLine({ score, tokens, text }: Passage): string {
  const at = text.indexOf(kFact.sentence);
  const shown = at === -1 ? shorten(text, kShown) : `…${shorten(text.slice(Math.max(0, at - kBefore)), kShown)} (planted)`;
  return `    ${(score?.toFixed(3) ?? '').padStart(6)}  token ${count(tokens[0]).padStart(9)}  ${shown}\n`;
}

function summary({ model, document }: Demo, asked: readonly Asked[], costs: Costs): string {
  const { tokens, chunks, chunkSize, nodes, nodesEncoded } = document.info;
  const { window } = model.info;
  const times = tokens / window;
  const rows: [string, string][] = [
    ['tokens read', `${count(tokens)}, ${times < 10 ? times.toFixed(1) : count(times)} times the model's window of ${count(window)}`],
    ['tree', `${plural(chunks, 'chunk')} of ${count(chunkSize)} tokens; ${count(nodesEncoded)} of ${plural(nodes, 'node')} computed so far`],
  ];
  for (const { kind, result } of asked) {
    const { usage, timings } = result;
    rows.push([`${kind} question`, `${plural(usage.slots, 'slot')} of ${plural(usage.nodesOpened, 'node')} injected`]);
    const phases = [`choose ${duration(timings.select)}`, `open ${duration(timings.encode)}`, `read ${duration(timings.prefill)}`];
    rows.push(['', `${phases.join(', ')}, write ${plural(usage.completionTokens, 'token')} ${duration(timings.decode)}`]);
  }
  rows.push(['load', duration(costs.loadMs)], ['compress', `${duration(costs.compressMs)}, once per document`]);
  rows.push(['peak memory', bytes(costs.peakMemoryBytes)]);
  return `What it did\n${table(rows)}\n`;
}

function record({ model, document }: Demo, asked: readonly Asked[], costs: Costs): Record<string, unknown> {
  const questions = asked.map(({ kind, question, result, passages, isRight }) => {
    const { text, finishReason, seed, usage, timings } = result;
    return { kind, question, answer: text, isRight, finishReason, seed, usage, timings, passages };
  });
  return { document: document.info, windows: document.info.tokens / model.info.window, model: model.info, questions, ...costs };
}
