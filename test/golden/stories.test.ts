/**
 * stories260K, a real tiny model: 200 greedy tokens and the logits of a prompt, against numbers computed in float64; on the device that the environment
 * variable BANYAN_TEST_DEVICE names (default: cpu).
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { NativeTrace } from '../../types/native.js';
import { maxDifference } from './compare.js';
import { kTolerance, loadNative } from './run.js';

interface Stories {
  greedy: Record<'bos_only' | 'once', { prompt: string; prompt_tokens: number[]; tokens: number[] }>;
  logits_after_prompt: { prompt_tokens: number[]; last_position: number[] };
}

const device = process.env['BANYAN_TEST_DEVICE'] === 'cuda' ? 'cuda' : 'cpu';
const folders = ['../../shared/models/', '../../../shared/models/'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
const folder = folders.find((path) => existsSync(`${path}stories260K-expected.json`));

describe.skipIf(folder === undefined)(`stories260K${folder === undefined ? ' (../shared/models is not there)' : ''}`, () => {
  const expected = (): Stories => JSON.parse(readFileSync(`${folder}stories260K-expected.json`, 'utf8')) as Stories;

  async function trace(file: string, ids: number[], maxNewTokens: number, kvType: 'f16' | 'f32', recompute = false): Promise<NativeTrace> {
    const native = loadNative();
    const cancel = native.createCancel();
    const model = await native.load({ model: `${folder}${file}`, device, kvType }, cancel, null);
    try {
      return await model.createSession({}).trace({ ids: Int32Array.from(ids), maxNewTokens, recompute }, cancel);
    } finally {
      await model.dispose();
    }
  }

  test.each(['bos_only', 'once'] as const)('200 greedy tokens, %s', async (name) => {
    const { prompt_tokens, tokens } = expected().greedy[name];
    const { greedy } = await trace('stories260K-f32.gguf', prompt_tokens, tokens.length, 'f32');
    expect([...greedy]).toEqual(tokens);
  });
  test('the same tokens when every step reads everything again', async () => {
    const { prompt_tokens, tokens } = expected().greedy.once;
    const { greedy } = await trace('stories260K-f32.gguf', prompt_tokens, 40, 'f32', true);
    expect([...greedy]).toEqual(tokens.slice(0, 40));
  });
  test('logits after the prompt', async () => {
    const { prompt_tokens, last_position } = expected().logits_after_prompt;
    const { logits } = await trace('stories260K-f32.gguf', prompt_tokens, 1, 'f32');
    expect(maxDifference(logits.subarray((prompt_tokens.length - 1) * last_position.length), last_position)).toBeLessThan(kTolerance);
  });
  test('half precision stays near', async () => {
    const { prompt_tokens, last_position } = expected().logits_after_prompt;
    const { logits } = await trace('stories260K-f16.gguf', prompt_tokens, 1, 'f16');
    expect(maxDifference(logits.subarray((prompt_tokens.length - 1) * last_position.length), last_position)).toBeLessThan(0.05);
  });
});
