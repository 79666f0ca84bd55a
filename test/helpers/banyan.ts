/** banyan: the built package, with the types of its sources, so that type checking needs no build. */
import { createRequire } from 'node:module';

import type { Native } from '../../types/native.js';

type Banyan = typeof import('../../lib/index.js');

export const kPackage = new URL('../../dist/index.js', import.meta.url);
export const kCommonJs = new URL('../../dist/index.cjs', import.meta.url);

export const banyan = (await import(/* @vite-ignore */ kPackage.href)) as Banyan;

/** The addon itself. */
export function addon(): Native {
  const require = createRequire(import.meta.url);
  const find = require('node-gyp-build') as (root: string) => Native;
  return find(new URL('../..', import.meta.url).pathname);
}

/** What a promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string; details?: unknown }> {
  try {
    await promise;
  } catch (error) {
    return error as Error & { code?: string };
  }
  throw new Error('It did not reject');
}

/** What a call throws. */
export function thrown(call: () => unknown): Error & { code?: string } {
  try {
    call();
  } catch (error) {
    return error as Error & { code?: string };
  }
  throw new Error('It did not throw');
}
