// request: what every benchmark asks the addon for: the likeliest tokens, whatever they are.
export const greedyRequest = (ids, maxTokens) => ({
  ...{ ids, maxTokens, stopIds: new Int32Array(0), temperature: 0, topK: 0, topP: 1, minP: 0 },
  ...{ repetitionPenalty: 1, frequencyPenalty: 0, presencePenalty: 0, penaltyWindow: 0, seed: 1 },
  ...{ biasIds: new Int32Array(0), biasValues: new Float32Array(0) },
});
