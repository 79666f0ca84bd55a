// native: builds the C++ side with CMake on all cores.
//   node scripts/native.mjs addon    build/Release/banyan.node (cmake-js)
//   node scripts/native.mjs tests    build/tests/bin/banyan_*_test, no Node headers needed
//   node scripts/native.mjs bench    builds and runs build/tests/bin/banyan_ops_bench
//   node scripts/native.mjs costs    builds build/tests/bin/banyan_cost_models_bench
// The environment variable BANYAN_CUDA says whether the CUDA backend is built: on, off, or auto (default): into the addon where nvcc is on PATH;
// the tests then run its kernels on an emulated device. `npm run test:cuda` runs them on a real one.
// More arguments go to the configure step of `tests`, e.g. -DBANYAN_SANITIZE=address,undefined, or to the benchmark.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const env = { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()), ...process.env };

function fail(message, code = 1) {
  console.error(`native: ${message}`);
  process.exit(code);
}

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' });
  if (error) fail(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

function requireCmake() {
  const { status } = spawnSync('cmake', ['--version'], { stdio: 'ignore' });
  if (status !== 0) fail('CMake 3.20 or newer is needed on PATH (Debian: apt-get install cmake; macOS: brew install cmake; or cmake.org)');
}

function cmakeJs() {
  try {
    return createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  } catch {
    return fail(`cmake-js is not installed; run npm install in ${root}`);
  }
}

function hasNinja() {
  return spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0;
}

function configureTests(...options) {
  const isFresh = !existsSync(`${root}build/tests/CMakeCache.txt`);
  const generator = isFresh && process.platform !== 'win32' && hasNinja() ? ['-G', 'Ninja'] : [];
  run('cmake', '-S', '.', '-B', 'build/tests', ...generator, '-DBANYAN_TESTS=ON', '-DCMAKE_BUILD_TYPE=Release', `-DBANYAN_CUDA=${cuda}`, ...options);
}

const cuda = process.env.BANYAN_CUDA || 'auto';
if (!['auto', 'on', 'off'].includes(cuda)) fail(`BANYAN_CUDA must be auto, on or off, got ${cuda}`, 2);
const [what, ...rest] = process.argv.slice(2);
requireCmake();
if (what === 'addon') {
  run(process.execPath, cmakeJs(), 'build', '--log-level', 'error', '--CDBANYAN_TESTS=OFF', `--CDBANYAN_CUDA=${cuda}`, ...rest);
} else if (what === 'tests') {
  configureTests(...rest);
  run('cmake', '--build', 'build/tests', '--config', 'Release');
} else if (what === 'bench') {
  configureTests();
  run('cmake', '--build', 'build/tests', '--config', 'Release', '--target', 'banyan_ops_bench');
  const folder = existsSync(`${root}build/tests/bin/Release`) ? 'build/tests/bin/Release' : 'build/tests/bin';
  run(`${root}${folder}/banyan_ops_bench`, ...rest);
} else if (what === 'costs') {
  configureTests();
  run('cmake', '--build', 'build/tests', '--config', 'Release', '--target', 'banyan_cost_models_bench');
} else {
  fail('usage: node scripts/native.mjs addon|tests|bench|costs', 2);
}
