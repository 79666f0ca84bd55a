/** compress: files into one saved document. */
import { stat } from 'node:fs/promises';
import { openTexts, type TextFile } from './files.js';
import { bytes, count, duration, plural } from './format.js';
import { interruptible } from './interrupt.js';
import { openModel } from './models.js';
import { createProgress } from './progress.js';
import type { CompressFlags } from './options.js';

export async function compress(paths: readonly string[], flags: CompressFlags): Promise<void> {
  const texts = await openTexts(paths);
  const progress = createProgress();
  await interruptible(async (signal) => {
    await using model = await openModel(flags, signal, progress);
    const began = performance.now();
    const onProgress = ({ phase, done, total }: { phase: string; done: number; total: number }): void => progress.update(phase, done, total);
    const title = texts.map((text) => text.title).join(', ');
    const document = await model.compress(joined(texts), { title, method: flags.method, eager: flags.eager, signal, onProgress });
    await document.save(flags.output, { signal, onProgress });
    progress.end();
    const { size } = await stat(flags.output);
    const { info } = document;
    const ms = performance.now() - began;
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ output: flags.output, fileBytes: size, ms, ...info })}\n`);
      return;
    }
    process.stdout.write(`${flags.output}: ${plural(info.tokens, 'token')} in ${plural(info.chunks, 'chunk')}, `);
    const computed = info.nodes > 0 ? `${count(info.nodesEncoded)} of ${plural(info.nodes, 'node')}` : `${count(info.chunksEncoded)} of them`;
    process.stdout.write(`${computed} computed, ${bytes(size)}, ${duration(ms)}\n`);
  });
}

// One text after another, an empty line between them.
async function* joined(texts: readonly TextFile[]): AsyncIterable<string> {
  for (const [i, text] of texts.entries()) {
    if (i > 0) yield '\n\n';
    yield* text.pieces();
  }
}
