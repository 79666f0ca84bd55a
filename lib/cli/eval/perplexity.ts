/** perplexity: how likely the last tokens of a long text are, against how much of the text was read. */
import { BanyanError, type Model } from '../../index.js';
import { randomFrom } from './random.js';
import { meanOf, type Mean } from './statistics.js';
import { budgetFor, type Budget, type System } from './systems.js';

export interface PerplexitySettings extends Budget {
  /** Tokens of text, the scored ones included; ascending. */
  lengths: readonly number[];
  /** Scored tokens at the end. */
  last: number;
  /** Pieces of text. */
  samples: number;
  /** Tokens before the scored ones that are local text and not document; default: what the window has room for. */
  local: number | undefined;
  /** Longest text for systems with attention to every token, whose cost grows with its square. */
  longestFull: number;
  seed: number;
}

export interface PerplexityCell {
  system: string;
  length: number;
  perplexity: number;
  /** Mean negative log-likelihood of a token over the samples, nats. */
  nll: Mean;
  /** The same less that of the window alone on the same tokens; null for the window itself, or where it was not run. */
  difference: Mean | null;
}

export type OnCell = (done: number, total: number) => void;

/**
 * The same scored tokens at every length and for every system: only what stands before them differs, so differences are paired. A length that a system cannot
 * read (the window is full, or it costs too much) has no cell.
 */
export async function perplexity(
  model: Model,
  systems: readonly System[],
  text: Int32Array,
  settings: PerplexitySettings,
  signal: AbortSignal,
  onCell: OnCell,
): Promise<PerplexityCell[]> {
  const { lengths, samples } = settings;
  const longest = lengths.at(-1)!;
  if (text.length < longest) throw new BanyanError('BANYAN_INVALID_ARGUMENT', `the text has ${text.length} tokens, the longest length is ${longest}`);
  const random = randomFrom(settings.seed);
  const ends = Array.from({ length: samples }, () => longest + Math.floor(random() * (text.length - longest + 1)));
  const losses = new Map<string, number[]>(); // by system and length, a value a sample
  let done = 0;
  for (const end of ends) {
    for (const length of lengths) {
      for (const system of systems) {
        done++;
        if (system.isQuadratic && length > settings.longestFull) continue;
        const loss = await lossOf(model, system, text.subarray(end - length, end), settings, signal);
        const key = `${system.name} ${length}`;
        if (loss !== null) losses.set(key, [...(losses.get(key) ?? []), loss]);
        onCell(done, ends.length * lengths.length * systems.length);
      }
    }
  }
  return systems.flatMap(({ name: system }) =>
    lengths.flatMap((length) => {
      const values = losses.get(`${system} ${length}`);
      if (values?.length !== samples) return [];
      const alone = system === 'window' ? undefined : losses.get(`window ${length}`);
      const nll = meanOf(values);
      const difference = alone === undefined ? null : meanOf(values.map((value, i) => value - alone[i]!));
      return [{ system, length, perplexity: Math.exp(nll.mean), nll, difference }];
    }),
  );
}

// Mean negative log-likelihood of the last tokens; null if they do not fit.
async function lossOf(model: Model, system: System, ids: Int32Array, settings: PerplexitySettings, signal: AbortSignal): Promise<number | null> {
  const { window, bosId } = model.info;
  const { last } = settings;
  const targets = ids.slice(-last);
  const before = ids.subarray(0, -last);
  const bos = bosId === null ? [] : [bosId];
  const method = system.method(ids.length + bos.length, window);
  let local = Math.min(settings.local ?? Infinity, window - last - bos.length, before.length);
  for (;;) {
    if (local < 1) return null;
    const prompt = Int32Array.from([...bos, ...before.subarray(before.length - local)]);
    const rest = method === null ? new Int32Array(0) : before.subarray(0, before.length - local);
    const document = rest.length === 0 ? null : await model.compress(rest, { method: method!.name, signal });
    await using session = model.createSession({
      ...(method === null ? { method: 'full' } : { method }),
      ...budgetFor(system, settings),
      ...(document === null ? {} : { documents: [document] }),
    });
    try {
      const { logprob } = await session.score(prompt, targets, { signal });
      return -logprob / last;
    } catch (error) {
      if (!(error instanceof BanyanError && error.code === 'BANYAN_CONTEXT_OVERFLOW')) throw error;
      // What a method leaves beside its chunks may depend on the prompt's length: less of it may fit.
      const room = (error.details as { room: number }).room;
      local = Math.min(room - last - bos.length, Math.floor(local / 2));
    } finally {
      await document?.dispose();
    }
  }
}
