/** sources: the documents of a command, from texts and from saved files, in the order they were named. */
import type { BanyanDocument, MethodName, Model } from '../index.js';
import { openTexts } from './files.js';
import type { Progress } from './progress.js';

export async function readSources(
  model: Model,
  paths: readonly string[],
  saved: readonly string[] | undefined,
  method: MethodName | undefined,
  signal: AbortSignal,
  progress: Progress,
): Promise<BanyanDocument[]> {
  const documents: BanyanDocument[] = [];
  for (const { title, pieces } of await openTexts(paths)) {
    const onProgress = ({ done, total }: { done: number; total: number }): void => progress.update(`reading ${title}`, done, total);
    documents.push(await model.compress(pieces(), { title, method, signal, onProgress }));
  }
  for (const path of saved ?? []) documents.push(await model.openDocument(path, { signal }));
  progress.end();
  return documents;
}
