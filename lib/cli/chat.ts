/** chat: a conversation, with documents if there are any. Ctrl-C ends an answer, and at the prompt the program. */
import { createInterface } from 'node:readline/promises';
import type { Session } from '../index.js';
import { answer } from './answer.js';
import { printResult } from './ask.js';
import { reportFailure } from './failure.js';
import { plural } from './format.js';
import { Interrupted, interruptible } from './interrupt.js';
import { budgetOf, methodOf } from './method.js';
import { openModel } from './models.js';
import { createProgress, type Progress } from './progress.js';
import type { ChatFlags } from './options.js';
import { readSources } from './sources.js';

export async function chat(paths: readonly string[], flags: ChatFlags): Promise<void> {
  const progress = createProgress();
  await using model = await interruptible((signal) => openModel(flags, signal, progress));
  const method = methodOf(model, flags);
  const documents = await interruptible((signal) => readSources(model, paths, flags.document, method?.name, signal, progress));
  const session = model.createSession({ documents, method, ...budgetOf(flags), system: flags.system });
  const isTalking = process.stdin.isTTY && !flags.json;
  const lines = createInterface({ input: process.stdin, ...(isTalking ? { output: process.stderr, prompt: '> ' } : {}), terminal: isTalking });
  // On a terminal readline takes Ctrl-C for itself.
  lines.on('SIGINT', () => process.emit('SIGINT'));
  if (isTalking) {
    process.stderr.write(`${plural(documents.length, 'document')}. An empty line or Ctrl-D ends the conversation.\n`);
    lines.prompt();
  }
  try {
    for await (const line of lines) {
      if (line.trim() === '') break;
      await turn(session, line, flags, progress, isTalking);
      if (isTalking) lines.prompt();
    }
  } finally {
    lines.close();
  }
}

async function turn(session: Session, question: string, flags: ChatFlags, progress: Progress, isTalking: boolean): Promise<void> {
  const onText = (text: string): void => void (flags.json || process.stdout.write(text));
  try {
    const result = await interruptible((signal) => answer(session, question, flags, signal, progress, onText));
    await printResult(question, result, flags.json);
  } catch (error) {
    if (!isTalking) throw error;
    // The conversation goes on: the session is as it was before this turn.
    if (error instanceof Interrupted) process.stderr.write('\n(interrupted)\n');
    else reportFailure(error);
  }
}
