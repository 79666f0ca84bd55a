// ids: the token ids that every peer gets: random but always the same, no control tokens.
export function idsOf(n, vocab, seed) {
  let state = seed;
  return Int32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return 259 + ((state >>> 8) % (vocab - 259));
  });
}
