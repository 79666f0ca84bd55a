/**
 * The options, events and results of the SDK. Token counts are tokens, times are milliseconds, sizes are bytes; token ranges are half open,
 * [begin, end). An option given as undefined counts as absent.
 */
export type * from './document.js';
export type * from './method.js';
export type * from './model.js';
export type * from './progress.js';
export type * from './run.js';
export type * from './session.js';
