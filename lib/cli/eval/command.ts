/** eval: how well a model reads, measured: perplexity against length, planted facts, published question sets. */
import { InvalidArgumentError, type Command } from 'commander';
import type { Model } from '../../index.js';
import { demoText } from '../demoText.js';
import { UsageError } from '../failure.js';
import { interruptible } from '../interrupt.js';
import { budgetOf, methodOf } from '../method.js';
import { openModel } from '../models.js';
import { addBudgetOptions, addMethodOption, addModelOptions, integer, real, type MethodFlags, type ModelFlags } from '../options.js';
import { createProgress, type Progress } from '../progress.js';
import { readPrompts, runTask, tasksOf, type Benchmark, type BenchmarkOptions, type BenchmarkRow } from './benchmark.js';
import { kTasks } from './facts.js';
import { kInfinitebench } from './infinitebench.js';
import { kLongbench } from './longbench.js';
import { lookup } from './lookup.js';
import { perplexity } from './perplexity.js';
import { benchmarkReport, lookupReport, perplexityReport, writeReport, type Report } from './report.js';
import { kSystems, systemsOf } from './systems.js';
import { readTokens } from './texts.js';

type CommonFlags = ModelFlags & { output?: string };
type SystemFlags = CommonFlags & Pick<MethodFlags, 'slotBudget' | 'budgetUnit'> & { systems?: string[]; lengths: number[]; seed: number };
type PerplexityFlags = SystemFlags & { last: number; samples: number; local?: number; longestFull: number };
type LookupFlags = SystemFlags & { task: string; depths: number[]; trials: number };
type BenchmarkFlags = CommonFlags & BenchmarkOptions & MethodFlags;

const names = (text: string): string[] => text.split(',').map((name) => name.trim());
function listOf(parse: (text: string) => number): (text: string) => number[] {
  return (text) => [...new Set(names(text).map(parse))].sort((a, b) => a - b);
}
const length = (text: string): number => integer(1)(text.replace(/^(\d+)[kK]$/, (_, thousands: string) => String(1024 * Number(thousands))));
const percent = (text: string): number => real(0, 100)(text) / 100;
const kEverywhere = Array.from({ length: 11 }, (_, i) => i / 10);

function evaluate(
  flags: CommonFlags,
  measure: (model: Model, signal: AbortSignal, progress: Progress) => Promise<{ report: Report; settings: object }>,
): Promise<void> {
  const progress = createProgress();
  return interruptible(async (signal) => {
    await using model = await openModel(flags, signal, progress);
    const { report, settings } = await measure(model, signal, progress);
    progress.end();
    await writeReport(report, model, settings, flags.output, flags.json);
  });
}

// The files, or the documentation that every npm carries; no more of it than a few times the longest document.
async function textOf(model: Model, files: readonly string[], longest: number): Promise<Int32Array> {
  if (files.length > 0) return readTokens(model, files, 64 * longest);
  return model.tokenize(demoText([]).text);
}

function evaluatePerplexity(files: readonly string[], flags: PerplexityFlags): Promise<void> {
  return evaluate(flags, async (model, signal, progress) => {
    const { lengths, last, samples, local, longestFull, seed } = flags;
    if (lengths[0]! <= last) throw new UsageError(`--lengths must be more than the ${last} scored tokens`);
    const systems = systemsOf(model, flags.systems);
    const text = await textOf(model, files, lengths.at(-1)!);
    const settings = { lengths, last, samples, local, longestFull, seed, ...budgetOf(flags) };
    const cells = await perplexity(model, systems, text, settings, signal, (done, total) => progress.update('perplexity', done, total));
    const report = perplexityReport(cells, `Perplexity of the last ${last} tokens`);
    return { report, settings: { files, ...settings } };
  });
}

function evaluateLookup(files: readonly string[], flags: LookupFlags): Promise<void> {
  return evaluate(flags, async (model, signal, progress) => {
    const { lengths, depths, trials, seed } = flags;
    const task = kTasks.find(({ name }) => name === flags.task)!;
    const systems = systemsOf(model, flags.systems);
    const text = await textOf(model, files, lengths.at(-1)!);
    const settings = { lengths, depths, trials, seed, ...budgetOf(flags) };
    const cells = await lookup(model, systems, task, text, settings, signal, (done, total) => progress.update('look-ups', done, total));
    return { report: lookupReport(cells, task.name), settings: { files, task: task.name, ...settings } };
  });
}

function evaluateBenchmark(benchmark: Benchmark, flags: BenchmarkFlags): Promise<void> {
  const tasks = tasksOf(benchmark, flags);
  return evaluate(flags, async (model, signal, progress) => {
    const method = methodOf(model, flags);
    if (method === undefined) throw new UsageError('the model has no adapter: name a method that needs none with --method');
    const prompts = await readPrompts(flags.prompts);
    const rows: BenchmarkRow[] = [];
    for (const task of tasks) {
      const onQuestion = (done: number): void => progress.update(task.name, done, flags.limit ?? 0);
      rows.push(await runTask(model, method, benchmark, task, prompts[task.name], flags.limit ?? Infinity, signal, onQuestion));
    }
    return { report: benchmarkReport(rows, benchmark.name), settings: { method, data: flags.data, limit: flags.limit ?? null } };
  });
}

function addCommonOptions(command: Command): Command {
  return addModelOptions(command).option('-o, --output <folder>', 'also write tables, JSON and plots there');
}

function addSystemOptions(command: Command, lengths: readonly number[]): Command {
  return addBudgetOptions(addCommonOptions(command))
    .option('--systems <names>', `what to compare: ${kSystems.map(({ name }) => name).join(', ')} (default: all that the model can run)`, names)
    .option('--lengths <list>', 'tokens, e.g. 4K,32K,128K', listOf(length), [...lengths])
    .option('--seed <n>', 'chooses the pieces of text', integer(0), 1);
}

export function addEvalCommand(program: Command): void {
  const evaluating = program.command('eval').description('measure how well a model reads');

  addSystemOptions(
    evaluating
      .command('perplexity')
      .description('of the last tokens of a text, against how much of it was read')
      .argument('[files...]', "texts: plain, or JSON Lines of {text}; .gz and .xz too (default: the documentation of this computer's npm)"),
    [1024, 2048, 4096, 8192, 16_384, 32_768],
  )
    .option('--last <n>', 'scored tokens', integer(1), 256)
    .option('--samples <n>', 'pieces of text', integer(1), 8)
    .option('--local <n>', 'tokens before the scored ones that are not document (default: what the window has room for)', integer(1))
    .option('--longest-full <n>', 'longest text for linear, ntk and yarn, whose cost grows with its square', length, 16_384)
    .action((files: string[], flags: PerplexityFlags) => evaluatePerplexity(files, flags));

  addSystemOptions(
    evaluating
      .command('lookup')
      .description('facts planted in a text: how many are found, by length and depth')
      .argument('[files...]', 'texts, as above'),
    [4096, 8192, 32_768],
  )
    .option(
      '--task <name>',
      `the form of the facts: ${kTasks.map(({ name }) => name).join(', ')}`,
      (name) => {
        if (!kTasks.some((task) => task.name === name))
          throw new InvalidArgumentError(`It must be one of ${kTasks.map((task) => task.name).join(', ')}.`);
        return name;
      },
      'kv',
    )
    .option('--depths <list>', 'where the facts stand, in percent', listOf(percent), kEverywhere)
    .option('--trials <n>', 'questions of one length and depth', integer(1), 20)
    .action((files: string[], flags: LookupFlags) => evaluateLookup(files, flags));

  for (const benchmark of [kLongbench, kInfinitebench]) {
    const command = evaluating.command(benchmark.name.toLowerCase()).description(`questions in the files that ${benchmark.name} publishes`);
    addMethodOption(addCommonOptions(command))
      .requiredOption('--data <folder>', `where ${Object.keys(benchmark.tasks)[0]!}.jsonl and the others are`)
      .option('--tasks <names>', 'only these', names)
      .option('--limit <n>', 'questions of a task (default: all)', integer(1))
      .option('--prompts <file>', 'JSON {task: prompt with {context} and {input}} instead of our own instructions')
      .action((flags: BenchmarkFlags) => evaluateBenchmark(benchmark, flags));
  }
}
