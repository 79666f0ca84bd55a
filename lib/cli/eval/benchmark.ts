/** benchmark: published question sets in JSON Lines, one file a task: every line is a document with a question and reference answers. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { BanyanError, type Model, type MethodOptions } from '../../index.js';
import { UsageError } from '../failure.js';
import type { Metric } from './metrics.js';
import { meanOf, type Mean } from './statistics.js';
import { readJsonLines } from './texts.js';

export interface BenchmarkTask {
  metric: Metric;
  /** Longest answer, tokens. */
  maxTokens: number;
  /** What is asked behind the document; {input} and the letters of the choices are filled in. */
  instruction: string;
  /** Only the first line of an answer counts (few-shot tasks, whose answers run on). */
  isFirstLine: boolean;
  /** Asked without the model's chat template. */
  isPlain: boolean;
}

export interface BenchmarkSample {
  context: string;
  input: string;
  /** The best one counts. */
  references: readonly string[];
  classes: readonly string[];
  isSupported: boolean;
}

export interface Benchmark {
  name: string;
  tasks: Readonly<Record<string, BenchmarkTask>>;
  sampleOf(line: Record<string, unknown>): BenchmarkSample;
}

export interface BenchmarkOptions {
  data: string;
  /** Default: those that have a file. */
  tasks: readonly string[] | undefined;
  /** Questions of a task; default: all. */
  limit: number | undefined;
  /** A JSON file {task: "... {context} ... {input} ..."} instead of our instructions, as LongBench publishes one. */
  prompts: string | undefined;
}

export interface BenchmarkRow {
  task: string;
  /** 0 to 100. */
  score: Mean;
  /** Questions that did not fit the method's window: they count 0. */
  overflowed: number;
  /** Left out: Chinese needs a word segmentation that is not here. */
  skipped: number;
  /** Of the documents, mean. */
  tokens: number;
}

const kEndings = ['.jsonl', '.jsonl.gz', '.jsonl.xz'];
const fileOf = (data: string, task: string): string | undefined => kEndings.map((end) => join(data, task + end)).find(existsSync);

/** Throws UsageError for a task or file that is not there. */
export function tasksOf(benchmark: Benchmark, { data, tasks }: BenchmarkOptions): { name: string; path: string }[] {
  const names = tasks ?? Object.keys(benchmark.tasks);
  const found = names.flatMap((name) => {
    if (!(name in benchmark.tasks))
      throw new UsageError(`${name} is no task of ${benchmark.name}; known are ${Object.keys(benchmark.tasks).join(', ')}`);
    const path = fileOf(data, name);
    if (path === undefined && tasks !== undefined) throw new UsageError(`${data} has no ${name}.jsonl`);
    return path === undefined ? [] : [{ name, path }];
  });
  if (found.length === 0) throw new UsageError(`${data} has no file of ${benchmark.name}, e.g. ${Object.keys(benchmark.tasks)[0]!}.jsonl`);
  return found;
}

/** {context} is where the document stood: what is before and behind it is asked together. */
export async function readPrompts(path: string | undefined): Promise<Record<string, string>> {
  if (path === undefined) return {};
  const found: unknown = JSON.parse(await readFile(path, 'utf8'));
  if (typeof found !== 'object' || found === null || !Object.values(found).every((each) => typeof each === 'string')) {
    throw new BanyanError('BANYAN_INVALID_ARGUMENT', `${path} is not a JSON object of texts`);
  }
  return found as Record<string, string>;
}

export async function runTask(
  model: Model,
  method: MethodOptions,
  benchmark: Benchmark,
  { name, path }: { name: string; path: string },
  prompt: string | undefined,
  limit: number,
  signal: AbortSignal,
  onQuestion: (done: number) => void,
): Promise<BenchmarkRow> {
  const task = benchmark.tasks[name]!;
  const instruction = prompt === undefined ? task.instruction : prompt.replace('{context}', '').trim();
  const scores: number[] = [];
  let [overflowed, skipped, tokens] = [0, 0, 0];
  for await (const line of readJsonLines(path)) {
    if (scores.length === limit) break;
    const sample = benchmark.sampleOf(line);
    if (!sample.isSupported) {
      skipped++;
      continue;
    }
    const document = await model.compress(sample.context, { method: method.name, signal });
    try {
      tokens += document.info.tokens;
      const session = model.createSession({ documents: [document], method, ...(task.isPlain ? { template: null } : {}) });
      const { text } = await session.generate(fill(instruction, sample), { maxTokens: task.maxTokens, temperature: 0, signal }).result;
      const answer = task.isFirstLine ? text.replace(/^\n+/, '').split('\n')[0]! : text;
      scores.push(100 * Math.max(...sample.references.map((reference) => task.metric(answer, reference, sample))));
      await session.dispose();
    } catch (error) {
      if (!(error instanceof BanyanError && error.code === 'BANYAN_CONTEXT_OVERFLOW')) throw error;
      overflowed++;
      scores.push(0);
    } finally {
      await document.dispose();
    }
    onQuestion(scores.length);
  }
  return { task: name, score: meanOf(scores), overflowed, skipped, tokens: scores.length === 0 ? 0 : Math.round(tokens / scores.length) };
}

function fill(instruction: string, { input, classes }: BenchmarkSample): string {
  return instruction.replace(/\{(input|[A-D])\}/g, (_, what: string) => (what === 'input' ? input : (classes[what.charCodeAt(0) - 65] ?? '')));
}
