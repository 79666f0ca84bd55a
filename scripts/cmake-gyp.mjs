#!/usr/bin/env node
// cmake-gyp: stands in for node-gyp when prebuildify calls it. Keeps `rebuild`, maps --arch and --debug, drops the rest (cmake-js would read
// --target as a CMake target), and builds into the calling folder so that a developer's build/ stays as it is.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const given = process.argv.slice(2);
const arch = given.find((argument) => argument.startsWith('--arch='))?.slice('--arch='.length);
const args = [
  'rebuild',
  '--directory',
  root,
  '--out',
  resolve('build'),
  '--log-level',
  'error',
  '--CDBANYAN_TESTS=OFF',
  // The binaries of the main package are the CPU's; BANYAN_CUDA=on makes those of a package for GPUs.
  `--CDBANYAN_CUDA=${process.env.BANYAN_CUDA || 'off'}`,
  '--CDBANYAN_CUDA_ARCHITECTURES=all',
];
if (arch !== undefined) args.push('--arch', arch);
if (given.includes('--debug')) args.push('--debug');
const { status } = spawnSync(process.execPath, [createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js'), ...args], {
  cwd: root,
  env: { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()), ...process.env },
  stdio: 'inherit',
});
process.exit(status ?? 1);
