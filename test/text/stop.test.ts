import { describe, expect, it } from 'vitest';
import { StopMatcher } from '../../lib/text/stop.js';
import { random } from './small_vocabularies.js';

// The stop string that is complete first, the longer one on a tie, found by trying every end.
function naive(text: string, stops: readonly string[]): { text: string; stop?: string } {
  for (let end = 1; end <= text.length; end++) {
    const found = [...stops].sort((a, b) => b.length - a.length).find((stop) => text.slice(0, end).endsWith(stop));
    if (found !== undefined) return { text: text.slice(0, end - found.length), stop: found };
  }
  return { text };
}

describe('StopMatcher', () => {
  it('holds back what may become a stop string and nothing else', () => {
    const matcher = new StopMatcher(['</end>', 'STOP']);
    expect(matcher.push('a</e')).toEqual({ text: 'a' });
    expect(matcher.push('x ST')).toEqual({ text: '</ex ' });
    expect(matcher.push('OP rest')).toEqual({ text: '', stop: 'STOP' });
    expect(matcher.push('more')).toEqual({ text: '', stop: 'STOP' });
    expect(matcher.stop).toBe('STOP');
    expect(matcher.flush()).toBe('');
  });

  it('gives the rest at the end', () => {
    const matcher = new StopMatcher(['abc']);
    expect(matcher.push('ab')).toEqual({ text: '' });
    expect(matcher.flush()).toBe('ab');
    expect(matcher.push('c')).toEqual({ text: 'c' });
  });

  it('agrees with a search of the whole text, however it is cut', () => {
    const next = random(9);
    const word = (most: number): string => Array.from({ length: 1 + next(most) }, () => 'ab'[next(2)]).join('');
    for (let round = 0; round < 3000; round++) {
      const stops = Array.from({ length: next(4) }, () => word(6));
      const text = word(30);
      const matcher = new StopMatcher(stops);
      let out = '';
      for (let at = 0; at < text.length;) {
        const { text: piece } = matcher.push(text.slice(at, (at += 1 + next(5))));
        out += piece;
      }
      if (matcher.stop === undefined) out += matcher.flush();
      expect({ text: out, ...(matcher.stop === undefined ? {} : { stop: matcher.stop }) }).toEqual(naive(text, stops));
    }
  });

  it('refuses what is no stop string', () => {
    expect(() => new StopMatcher([''])).toThrow(RangeError);
    expect(() => new StopMatcher([5 as unknown as string])).toThrow(TypeError);
  });
});
