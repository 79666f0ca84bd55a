/** method: how a session reads its documents, checked and turned into what the engine is told. */
import type { NativeMethodOptions } from '../types/native.js';
import type { MethodName, MethodOptions, SessionOptions } from '../types/public.js';
import { Check } from './arguments.js';
import { BanyanError, invalidType, type Caller } from './errors.js';

export const kMethods = ['sharedllm', 'focusllm', 'parallel', 'streaming', 'full'] as const satisfies readonly MethodName[];

const kMaxInt = 2 ** 31 - 1;
const kSettings = {
  sharedllm: ['name'],
  focusllm: ['name', 'queryCap', 'refreshEvery', 'refreshChunks'],
  parallel: ['name', 'temperature', 'scale'],
  streaming: ['name', 'sinks', 'window'],
  full: ['name', 'ropeScaling'],
} as const;

/** Throws TypeError and RangeError. */
export function checkMethod(method: SessionOptions['method'], caller: Caller): NativeMethodOptions {
  const check = new Check(caller);
  if (method === undefined) return {};
  if (typeof method === 'string') return { method: check.oneOf(method, 'method', kMethods)! };
  if (typeof method !== 'object' || method === null) throw invalidType('name of a method or object', 'method', method, caller);
  const name = check.oneOf((method as Partial<MethodOptions>).name, 'method.name', kMethods);
  if (name === undefined) throw invalidType(`one of ${kMethods.join(', ')}`, 'method.name', undefined, caller);
  check.options(method as object as Record<string, unknown>, kSettings[name], 'method');
  const integer = (value: number | undefined, what: string, low: number): number | undefined =>
    value === undefined ? undefined : check.integer(value, `method.${what}`, low, kMaxInt);
  return { method: name, ...defined(settingsOf(method, check, integer)) };
}

/** Throws TypeError, RangeError, and BANYAN_INVALID_ARGUMENT for a session of another method. */
export function checkBudget(
  { slotBudget, budgetUnit }: Pick<SessionOptions, 'slotBudget' | 'budgetUnit'>,
  method: MethodName | null,
  caller: Caller,
): Pick<NativeMethodOptions, 'slotBudget' | 'budgetUnit'> {
  const check = new Check(caller);
  const slots = slotBudget === undefined ? {} : { slotBudget: check.integer(slotBudget, 'slotBudget', 0, Number.MAX_SAFE_INTEGER) };
  const unit = check.oneOf(budgetUnit, 'budgetUnit', ['chunk', 'group']);
  if ((slotBudget !== undefined || unit !== undefined) && method !== 'sharedllm') {
    const name = slotBudget === undefined ? 'budgetUnit' : 'slotBudget';
    throw new BanyanError('BANYAN_INVALID_ARGUMENT', `${name} belongs to the method sharedllm${method === null ? '' : `, not to ${method}`}`);
  }
  return { ...slots, ...(unit === undefined ? {} : { budgetUnit: unit }) };
}

type Integer = (value: number | undefined, what: string, low: number) => number | undefined;
type Settings = { [K in keyof NativeMethodOptions]: NativeMethodOptions[K] | undefined };

function settingsOf(method: MethodOptions, check: Check, integer: Integer): Settings {
  switch (method.name) {
    case 'focusllm':
      return {
        queryCap: integer(method.queryCap, 'queryCap', 1),
        refreshEvery: integer(method.refreshEvery, 'refreshEvery', 1),
        refreshChunks: integer(method.refreshChunks, 'refreshChunks', 0),
      };
    case 'parallel':
      return {
        contextTemperature: check.number(method.temperature, 'method.temperature', 0.01, 10, 0.9),
        contextScale: check.number(method.scale, 'method.scale', 0.01, 10, 0.9),
      };
    case 'streaming':
      return { sinks: integer(method.sinks, 'sinks', 0), window: integer(method.window, 'window', 1) };
    case 'full': {
      if (method.ropeScaling === undefined) return {};
      const { type, factor } = check.options(method.ropeScaling, ['type', 'factor'], 'method.ropeScaling');
      const ropeScaling = check.oneOf(type, 'method.ropeScaling.type', ['linear', 'ntk', 'dynamic', 'yarn']) ?? 'none';
      return { ropeScaling, ropeFactor: check.number(factor, 'method.ropeScaling.factor', 1, 1024, 1) };
    }
    case 'sharedllm':
      return {};
  }
}

function defined(settings: Settings): NativeMethodOptions {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as NativeMethodOptions;
}
