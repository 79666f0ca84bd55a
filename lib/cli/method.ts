/** method: the flags of a session's method as its options. A flag of another method than the one in use is wrong usage. */
import type { MethodName, MethodOptions, Model, SessionOptions } from '../index.js';
import { UsageError } from './failure.js';
import type { MethodFlags } from './options.js';

const kFlags = {
  sharedllm: ['slotBudget', 'budgetUnit'],
  focusllm: ['queryCap', 'refreshEvery', 'refreshChunks'],
  parallel: ['contextTemperature', 'contextScale'],
  streaming: ['sinks', 'window'],
  full: ['ropeScaling'],
} as const satisfies Record<MethodName, readonly (keyof MethodFlags)[]>;

/** undefined: the model has no method and none was named. Throws UsageError. */
export function methodOf(model: Model, flags: MethodFlags): MethodOptions | undefined {
  const name = flags.method ?? model.info.method ?? undefined;
  for (const [method, names] of Object.entries(kFlags)) {
    const wrong = method === name ? undefined : names.find((each) => flags[each] !== undefined);
    if (wrong !== undefined) {
      const flag = `--${wrong.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      throw new UsageError(`${flag} belongs to --method ${method}${name === undefined ? '' : `, not to ${name}`}`);
    }
  }
  switch (name) {
    case 'focusllm':
      return { name, queryCap: flags.queryCap, refreshEvery: flags.refreshEvery, refreshChunks: flags.refreshChunks };
    case 'parallel':
      return { name, temperature: flags.contextTemperature, scale: flags.contextScale };
    case 'streaming':
      return { name, sinks: flags.sinks, window: flags.window };
    case 'full':
      return { name, ropeScaling: flags.ropeScaling };
    case 'sharedllm':
      return { name };
    case undefined:
      return undefined;
  }
}

/** The budget of a session of sharedllm. */
export const budgetOf = ({ slotBudget, budgetUnit }: MethodFlags): Pick<SessionOptions, 'slotBudget' | 'budgetUnit'> => ({ slotBudget, budgetUnit });
