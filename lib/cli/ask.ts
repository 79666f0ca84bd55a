/** ask: questions about files; the answer streams to the standard output, what it took goes to stderr. */
import type { RunResult } from '../index.js';
import { answer, passagesOf } from './answer.js';
import { UsageError } from './failure.js';
import { duration, plural } from './format.js';
import { interruptible } from './interrupt.js';
import { budgetOf, methodOf } from './method.js';
import { openModel } from './models.js';
import { createProgress } from './progress.js';
import type { AskFlags } from './options.js';
import { readSources } from './sources.js';

export async function ask(paths: readonly string[], flags: AskFlags): Promise<void> {
  if (paths.length + (flags.document?.length ?? 0) === 0) throw new UsageError('name a file to ask about, or a saved one with --document');
  const progress = createProgress();
  await interruptible(async (signal) => {
    await using model = await openModel(flags, signal, progress);
    const method = methodOf(model, flags);
    const documents = await readSources(model, paths, flags.document, method?.name, signal, progress);
    for (const question of flags.question) {
      const session = model.createSession({ documents, method, ...budgetOf(flags), system: flags.system });
      const result = await answer(session, question, flags, signal, progress, (text) => void (flags.json || process.stdout.write(text)));
      await printResult(question, result, flags.json);
    }
  });
}

const kPassages = 5;

/** The end of an answer that was streamed, or all of it as one line of JSON. */
export async function printResult(question: string, result: RunResult, isJson: boolean | undefined): Promise<void> {
  const { text, finishReason, seed, usage, timings } = result;
  if (isJson) {
    const passages = await passagesOf(result, kPassages);
    process.stdout.write(`${JSON.stringify({ question, answer: text, finishReason, seed, usage, timings, passages })}\n`);
    return;
  }
  process.stdout.write('\n');
  if (!process.stderr.isTTY) return;
  const opened = usage.nodesOpened === 0 ? '' : `; opened ${plural(usage.nodesOpened, 'node')}, ${plural(usage.slots, 'slot')}`;
  process.stderr.write(`(${plural(usage.completionTokens, 'token')} in ${duration(timings.total)}${opened})\n`);
}
