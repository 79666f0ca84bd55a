/** systems: what an evaluation compares: ways for one model to read a document of some length. */
import type { MethodName, MethodOptions, Model, SessionOptions } from '../../index.js';
import { UsageError } from '../failure.js';

export interface System {
  name: string;
  label: string;
  /** For a document and local text of so many tokens in all; null: the document is not read. */
  method(tokens: number, window: number): MethodOptions | null;
  needs: MethodName;
  /** Attention of every token to every other. */
  isQuadratic?: boolean;
}

/** Of SharedLLM's sessions. */
export type Budget = Pick<SessionOptions, 'slotBudget' | 'budgetUnit'>;

/** Other methods would refuse it. */
export function budgetFor({ needs }: System, { slotBudget, budgetUnit }: Budget): Budget {
  return needs === 'sharedllm' ? { slotBudget, budgetUnit } : {};
}

const scaled = (name: 'linear' | 'ntk' | 'yarn', label: string): System => ({
  name,
  label,
  needs: 'full',
  isQuadratic: true,
  method: (tokens, window) =>
    tokens <= window ? { name: 'full' } : { name: 'full', ropeScaling: { type: name, factor: Math.ceil(tokens / window) } },
});

export const kSystems: readonly System[] = [
  { name: 'window', label: 'window only', needs: 'full', method: () => null },
  { name: 'sharedllm', label: 'SharedLLM', needs: 'sharedllm', method: () => ({ name: 'sharedllm' }) },
  { name: 'focusllm', label: 'FocusLLM', needs: 'focusllm', method: () => ({ name: 'focusllm' }) },
  { name: 'parallel', label: 'parallel encoding', needs: 'parallel', method: () => ({ name: 'parallel' }) },
  { name: 'streaming', label: 'StreamingLLM', needs: 'streaming', method: () => ({ name: 'streaming' }) },
  scaled('linear', 'full, linear (PI)'),
  scaled('ntk', 'full, NTK'),
  scaled('yarn', 'full, YaRN'),
];

/** By name; by default all that this model can run. Throws UsageError. */
export function systemsOf(model: Model, names: readonly string[] | undefined): System[] {
  if (names === undefined) return kSystems.filter(({ needs }) => model.info.methods.includes(needs));
  return names.map((name) => {
    const found = kSystems.find((system) => system.name === name);
    if (found === undefined) throw new UsageError(`${name} is none of ${kSystems.map((system) => system.name).join(', ')}`);
    if (!model.info.methods.includes(found.needs)) throw new UsageError(`${name} needs an adapter that was not loaded`);
    return found;
  });
}
