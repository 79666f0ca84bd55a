/** Banyan: Llama-family models that read far beyond their window, inside your own Node process. */
import './dispose.js';

import type { Devices } from '../types/public.js';
import { native } from './binding.js';

export { loadModel, Model } from './model.js';
export type { ModelEvents, TokenizeOptions, DetokenizeOptions } from './model.js';
export { BanyanDocument } from './document.js';
export { Session } from './session.js';
export type { SessionEvents } from './session.js';
export { Run } from './run.js';
export type { RunEvents } from './run.js';
export { BanyanError } from './errors.js';
export type { BanyanErrorCode, BanyanErrorDetails } from './errors.js';
export type * from '../types/public.js';

/** Version of the native addon. Throws BANYAN_NATIVE_LOAD_FAILED. */
export const version = (): string => native().version();

/** Instruction sets the addon can use on this machine, best first. Throws BANYAN_NATIVE_LOAD_FAILED. */
export const cpuVariants = (): string[] => native().cpuVariants();

/** The devices of this machine that the addon can use. Throws BANYAN_NATIVE_LOAD_FAILED. */
export const devices = (): Devices => native().devices();
