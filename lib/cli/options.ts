/** options: what several commands share, each value checked while it is parsed (wrong usage: exit code 2). */
import { InvalidArgumentError, Option, type Command } from 'commander';

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
  adapter?: string;
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

export interface SessionFlags {
  system?: string;
  document?: string[];
}

export type AskFlags = ModelFlags & GenerationFlags & SessionFlags & { question: string[] };
export type ChatFlags = ModelFlags & GenerationFlags & SessionFlags;
export type CompressFlags = ModelFlags & { output: string; eager?: boolean };
export type InspectFlags = { json?: boolean };
export type DemoFlags = ModelFlags & GenerationFlags & { question?: string; plant: boolean };

export function addModelOptions(command: Command): Command {
  return command
    .option('-m, --model <path>', 'GGUF file or Hugging Face directory (default: the small demo model of this package)')
    .option('-a, --adapter <path>', 'adapter directory (default: the demo model has its own, another model none)')
    .addOption(new Option('--device <name>', 'where to compute').choices(['auto', 'cpu', 'cuda']).default('auto'))
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

export function addSessionOptions(command: Command): Command {
  return command
    .option('-s, --system <text>', 'system prompt')
    .option('-d, --document <file>', 'a document saved by `banyan compress`; may be repeated', collect);
}
