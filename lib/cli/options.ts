/** options: what several commands share, each value checked while it is parsed (wrong usage: exit code 2). */
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { BudgetUnit, FullMethod, MethodName, KvType } from '../index.js';

export type RopeScaling = NonNullable<FullMethod['ropeScaling']>;

function numberIn(low: number, high: number, isInteger: boolean): (text: string) => number {
  const kind = `${isInteger ? 'an integer' : 'a number'} ${high === Infinity ? `of at least ${low}` : `from ${low} to ${high}`}`;
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (!(value >= low && value <= high) || (isInteger && !Number.isInteger(value))) throw new InvalidArgumentError(`It must be ${kind}.`);
    return value;
  };
}

export const integer = (low: number, high: number = Number.MAX_SAFE_INTEGER): ((text: string) => number) => numberIn(low, high, true);
export const real = (low: number, high: number): ((text: string) => number) => numberIn(low, high, false);
export const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];

export interface ModelFlags {
  model?: string;
  adapter?: string[];
  kvType?: KvType;
  poolType?: KvType;
  adapterType?: 'stored' | 'q8';
  kvDirectory?: string;
  device: 'auto' | 'cpu' | 'cuda';
  threads?: number;
  json?: boolean;
}

export interface GenerationFlags {
  maxTokens?: number;
  temperature: number;
  topP: number;
  stop?: string[];
  seed?: number;
}

export interface MethodFlags {
  method?: MethodName;
  slotBudget?: number;
  budgetUnit?: BudgetUnit;
  queryCap?: number;
  refreshEvery?: number;
  refreshChunks?: number;
  sinks?: number;
  window?: number;
  contextTemperature?: number;
  contextScale?: number;
  ropeScaling?: RopeScaling;
}

export type SessionFlags = MethodFlags & {
  system?: string;
  document?: string[];
};

export type AskFlags = ModelFlags & GenerationFlags & SessionFlags & { question: string[] };
export type ChatFlags = ModelFlags & GenerationFlags & SessionFlags;
export type CompressFlags = ModelFlags & Pick<MethodFlags, 'method'> & { output: string; eager?: boolean };
export type InspectFlags = { json?: boolean };
export type DoctorFlags = { json?: boolean };
export type DemoFlags = ModelFlags & GenerationFlags & { question?: string; plant: boolean };

export function addModelOptions(command: Command): Command {
  return command
    .option('-m, --model <path>', 'GGUF file or Hugging Face directory (default: the small demo model of this package)')
    .option(
      '-a, --adapter <path>',
      'adapter directory; may be repeated, one a method (default: the demo model has its own, another model none)',
      collect,
    )
    .addOption(new Option('--device <name>', 'where to compute').choices(['auto', 'cpu', 'cuda']).default('auto'))
    .addOption(new Option('--kv-type <type>', 'element type of keys and values (default: f16)').choices(['f16', 'f32', 'q8']))
    .addOption(
      new Option('--pool-type <type>', "element type of whole chunks' keys and values (focusllm, parallel; default: --kv-type)").choices([
        'f16',
        'f32',
        'q8',
      ]),
    )
    .addOption(new Option('--adapter-type <type>', "of the adapter's matrices: as its file has them, or 8 bits").choices(['stored', 'q8']))
    .option('--kv-directory <path>', "keep whole chunks' keys and values in scratch files there instead of in memory")
    .option('--threads <n>', 'CPU threads (default: one per physical core)', integer(1, 1024))
    .option('--json', 'print JSON, and nothing else, on the standard output');
}

export function addGenerationOptions(command: Command, defaults: { maxTokens?: number; temperature: number }): Command {
  return command
    .option('-n, --max-tokens <n>', 'longest answer in tokens (default: 256, or what the window has left)', integer(1), defaults.maxTokens)
    .option('-t, --temperature <x>', '0: always the likeliest token', real(0, 2), defaults.temperature)
    .option('--top-p <x>', 'choose among the likeliest tokens of this total probability', real(0, 1), 1)
    .option('--stop <text>', 'end the answer before this text; may be repeated', collect)
    .option('--seed <n>', 'the same seed gives the same answer', integer(0));
}

function ropeScaling(text: string): RopeScaling {
  const [type = '', factor] = text.split(':');
  const known = ['linear', 'ntk', 'dynamic', 'yarn'] as const;
  const found = known.find((each) => each === type);
  if (found === undefined || factor === undefined) throw new InvalidArgumentError(`It must be one of ${known.join(', ')}, a colon and a factor.`);
  return { type: found, factor: real(1, 1024)(factor) };
}

const methodOption = (): Option =>
  new Option('--method <name>', "how documents are read (default: the adapter's method)").choices([
    'sharedllm',
    'focusllm',
    'parallel',
    'streaming',
    'full',
  ]);

export function addMethodOption(command: Command): Command {
  return command.addOption(methodOption());
}

export function addBudgetOptions(command: Command): Command {
  return command
    .option('--slot-budget <n>', 'sharedllm: inject at most n slots (0: all that were opened)', integer(0))
    .addOption(new Option('--budget-unit <unit>', 'sharedllm: what a full budget leaves out').choices(['chunk', 'group']));
}

export function addSessionOptions(command: Command): Command {
  return addBudgetOptions(addMethodOption(command))
    .option('--query-cap <n>', 'focusllm: longest part of the prompt put behind each chunk, in tokens', integer(1))
    .option('--refresh-every <n>', 'focusllm: compute candidates anew every n tokens (1: exact)', integer(1))
    .option('--refresh-chunks <n>', 'focusllm: only of the n chunks looked at most (0: all, exact)', integer(0))
    .option('--sinks <n>', 'streaming: first tokens that stay', integer(0))
    .option('--window <n>', "streaming: tokens that one token sees (default: the model's window)", integer(1))
    .option('--context-temperature <x>', "parallel: divides the scores of the documents' tokens", real(0.01, 10))
    .option('--context-scale <x>', 'parallel: multiplies the weight of the documents', real(0.01, 10))
    .option('--rope-scaling <type:factor>', 'full: linear, ntk, dynamic or yarn positions, e.g. yarn:4', ropeScaling)
    .option('-s, --system <text>', 'system prompt')
    .option('-d, --document <file>', 'a document saved by `banyan compress`; may be repeated', collect);
}
