/** n ids of a vocabulary of `vocab`, always the same for one seed. */
export function idsOf(n: number, vocab: number, seed: number): Int32Array;
