/** queue: one job after another. */
import { raceAbort } from './abort.js';

export class Queue {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all earlier work has ended, well or not. An abort while waiting rejects at once and `work` never runs. */
  run<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const earlier = this.#tail;
    const mine = raceAbort(earlier, signal).then(() => {
      signal?.throwIfAborted();
      return work();
    });
    this.#tail = Promise.allSettled([earlier, mine]);
    return mine;
  }

  /** Resolves when everything enqueued so far has ended. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}
