/** lookup: how often a planted fact is found, against the length of the document and where in it the fact stands. */
import { BanyanError, type Model } from '../../index.js';
import { isAnswer, plant, type Fact, type Task } from './facts.js';
import type { OnCell } from './perplexity.js';
import { randomFrom } from './random.js';
import { budgetFor, type Budget, type System } from './systems.js';

export interface LookupSettings extends Budget {
  /** Tokens of the document. */
  lengths: readonly number[];
  /** 0: the fact begins the document, 1: it ends it. */
  depths: readonly number[];
  /** Questions a cell. */
  trials: number;
  seed: number;
}

export interface LookupCell {
  system: string;
  length: number;
  depth: number;
  trials: number;
  answered: number;
  /** SharedLLM: the fact lies in a span that is kept finest. */
  opened: number;
  /** SharedLLM: of all opened spans, that one has the highest score. */
  first: number;
}

/** Every document holds one fact of each depth (a task of few keys: one document a depth); each is asked for on its own. A length that does not fit has no cell. */
export async function lookup(
  model: Model,
  systems: readonly System[],
  task: Task,
  text: Int32Array,
  settings: LookupSettings,
  signal: AbortSignal,
  onCell: OnCell,
): Promise<LookupCell[]> {
  const { lengths, depths, trials } = settings;
  const together = task.keys.length >= depths.length ? [depths] : depths.map((depth) => [depth]);
  const cells = new Map<string, LookupCell>();
  let done = 0;
  for (const length of lengths) {
    const random = randomFrom(settings.seed);
    for (let trial = 0; trial < trials; trial++) {
      for (const group of together) {
        const planted = await plant(model, task, text, length, group, random);
        for (const system of systems) {
          const answers = await ask(model, system, task, planted, settings, signal);
          answers.forEach((found, i) => {
            const key = `${system.name} ${length} ${group[i]!}`;
            const cell = cells.get(key) ?? { system: system.name, length, depth: group[i]!, trials: 0, answered: 0, opened: 0, first: 0 };
            cells.set(key, cell);
            cell.trials++;
            for (const what of ['answered', 'opened', 'first'] as const) if (found[what]) cell[what]++;
          });
          onCell(++done, lengths.length * trials * together.length * systems.length);
        }
      }
    }
  }
  return [...cells.values()];
}

type Found = Pick<Record<keyof LookupCell, boolean>, 'answered' | 'opened' | 'first'>;

const kAnswerTokens = 12; // enough for any value, and for what shows that it ends

// What was found of each fact; nothing if the document or the questions do not fit.
async function ask(
  model: Model,
  system: System,
  task: Task,
  { ids, facts }: { ids: Int32Array; facts: readonly Fact[] },
  budget: Budget,
  signal: AbortSignal,
): Promise<Found[]> {
  const { window, bosId } = model.info;
  const bos = bosId === null ? [] : [bosId];
  const questions = await Promise.all(facts.map(({ key }) => model.tokenize(` ${task.stem(key)}`))); // with the space that begins a sentence in a text
  const longest = bos.length + Math.max(...questions.map((question) => question.length)) + kAnswerTokens;
  const method = system.method(ids.length + longest, window);
  // The window alone: what stands last in the document, as much as fits before the question.
  const before = method === null ? [...ids.subarray(Math.max(0, ids.length + longest - window))] : [];
  const document = method === null ? null : await model.compress(ids, { method: method.name, signal });
  try {
    await using session = model.createSession({
      ...{ method: method ?? 'full', template: null },
      ...budgetFor(system, budget),
      ...(document === null ? {} : { documents: [document] }),
    });
    const found: Found[] = [];
    for (const [i, { value, tokens }] of facts.entries()) {
      const prompt = Int32Array.from([...bos, ...before, ...questions[i]!]);
      const answer = await session.generate(prompt, { maxTokens: kAnswerTokens, temperature: 0, signal }).result;
      const spans = (answer.retrieval[0]?.opened ?? []).filter(({ score }) => !Number.isNaN(score)); // NaN: all is read, nothing was chosen
      const holds = ({ tokens: [from, to] }: { tokens: readonly [number, number] }): boolean => from <= tokens[0] && tokens[1] <= to;
      found.push({
        answered: isAnswer(value, ids.subarray(...tokens), answer.text, answer.ids),
        opened: spans.some(holds),
        first: spans[0] !== undefined && holds(spans[0]),
      });
    }
    return found;
  } catch (error) {
    if (error instanceof BanyanError && error.code === 'BANYAN_CONTEXT_OVERFLOW') return [];
    throw error;
  } finally {
    await document?.dispose();
  }
}
