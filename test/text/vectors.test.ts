import { describe, expect, it } from 'vitest';
import { kVocabularies, vectorsOf, vocabulary, whyNoVectors } from './shared_vectors.js';

describe.skipIf(whyNoVectors !== undefined)(`vocabularies of real models${whyNoVectors === undefined ? '' : ` (skipped: ${whyNoVectors})`}`, () => {
  describe.each(kVocabularies)('%s', { timeout: 60_000 }, (name) => {
    it('encodes every vector', async () => {
      const tokenizer = await vocabulary(name);
      const cases = vectorsOf(name);
      expect(cases.length).toBeGreaterThan(40);
      for (const { text, ids } of cases) expect([...(await tokenizer.encode(text))], JSON.stringify(text)).toEqual(ids);
    });

    it('decodes what it encoded', async () => {
      const tokenizer = await vocabulary(name);
      for (const { text, ids } of vectorsOf(name)) expect(tokenizer.decode(ids)).toBe(text);
    });
  });
});
