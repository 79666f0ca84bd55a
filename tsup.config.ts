import { existsSync } from 'node:fs';

import { defineConfig, type Options } from 'tsup';

const common: Options = {
  target: 'node20',
  platform: 'node',
  outDir: 'dist',
  external: ['tokenizers', '@huggingface/jinja', 'node-gyp-build', 'commander'],
  splitting: false,
  sourcemap: false,
};

const library: Options = {
  ...common,
  entry: { index: 'lib/index.ts' },
  format: ['esm', 'cjs'],
  shims: true, // import.meta.url in the CommonJS build
  dts: { resolve: ['typed-emitter'] },
};

// The command line uses the library as anybody does, from the file beside it.
const command: Options = {
  ...common,
  entry: { cli: 'lib/cli/main.ts' },
  format: ['esm'],
  banner: { js: '#!/usr/bin/env node' },
};

export default defineConfig(existsSync('lib/cli/main.ts') ? [library, command] : [library]);
