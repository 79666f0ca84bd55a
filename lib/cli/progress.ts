/** progress: one bar on stderr. On a terminal it redraws itself; elsewhere each phase leaves one line when it ends. */
import { count, duration } from './format.js';

export interface Progress {
  /** Shows `done` of `total` of a phase; another phase than before ends the one before. */
  update(phase: string, done: number, total: number): void;
  /** Ends the phase; its line stays on a stream that is no terminal and disappears on a terminal. */
  end(): void;
}

const kWidth = 28;
const kRedrawMs = 60;

export function createProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  let phase = '';
  let began = 0;
  let drawn = 0;
  let last: readonly [number, number] = [0, 0];

  const end = (): void => {
    if (phase === '') return;
    if (stream.isTTY) stream.write('\r\x1b[2K');
    else stream.write(`${phase}: ${last[1] > 0 ? `${count(last[0])} of ${count(last[1])}, ` : ''}${duration(performance.now() - began)}\n`);
    phase = '';
  };

  const draw = (now: number): void => {
    const fraction = last[1] > 0 ? Math.min(1, last[0] / last[1]) : 0;
    const filled = Math.round(fraction * kWidth);
    const left = fraction > 0.02 && fraction < 1 ? `${duration(((now - began) / fraction) * (1 - fraction))} left` : '';
    const bar = `${'━'.repeat(filled)}${'·'.repeat(kWidth - filled)}`;
    stream.write(`\r\x1b[2K${phase.padEnd(12)} ${bar} ${String(Math.floor(fraction * 100)).padStart(3)} %  ${left}`);
    drawn = now;
  };

  return {
    update(name, done, total) {
      const now = performance.now();
      if (name !== phase) {
        end();
        [phase, began, drawn] = [name, now, 0];
      }
      last = [done, total];
      if (stream.isTTY && now - drawn >= kRedrawMs) draw(now);
    },
    end,
  };
}
