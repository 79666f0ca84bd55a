import { defineConfig } from 'vitest/config';

// Tests run against what users get: build/Release/banyan.node and dist/ (npm run build).
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false, // latencies are measured, and the engine uses all cores
  },
});
