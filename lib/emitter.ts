/** emitter: typed events. An 'error' that nobody listens to is not thrown: the promise carries it. */
import { EventEmitter } from 'node:events';

import type TypedEmitter from 'typed-emitter';
import type { EventMap } from 'typed-emitter';

/** A base class with typed events. */
export const emitterOf = <Events extends EventMap>(): new () => TypedEmitter<Events> => EventEmitter as unknown as new () => TypedEmitter<Events>;

/** Emits 'error' if somebody listens. */
export function emitError<Events extends EventMap>(emitter: TypedEmitter<Events>, ...args: unknown[]): void {
  const plain = emitter as unknown as EventEmitter;
  if (plain.listenerCount('error') > 0) plain.emit('error', ...args);
}
