/**
 * pack: the tarball as a user installs it. Prebuilds the addon (or takes the newest prebuilt one), packs, installs into an empty project, loads it by
 * require and import and generates a few tokens, with this Node and with others. Slow, so only `npm run test:pack` runs it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const isAsked = process.env['npm_lifecycle_event'] === 'test:pack';
const kTimeoutMs = 1_200_000;

const kProgram = (load: string): string => `
const path = require('node:path');
(async () => {
  const { loadModel } = ${load};
  const root = path.dirname(require.resolve('banyan/package.json'));
  const model = await loadModel({ model: path.join(root, 'models/banyan-demo'), adapter: path.join(root, 'models/banyan-demo-adapter'), device: 'cpu' });
  const document = await model.compress('The river is long. The house is old. '.repeat(40));
  const session = model.createSession({ documents: [document] });
  const { usage } = await session.generate('The river is', { maxTokens: 4, temperature: 0 }).result;
  await model.dispose();
  console.log(JSON.stringify({ version: process.version, usage }));
})().catch((error) => { console.error(error); process.exitCode = 1; });
`;

interface Packed {
  filename: string;
  size: number;
  files: { path: string; size: number }[];
}

// npm as the running one if there is one: on Windows `npm` is a script that cannot be executed directly.
function npm(cwd: string, ...args: string[]): string {
  const script = process.env['npm_execpath'];
  const [command, prefix] = script === undefined ? ['npm', []] : [process.execPath, [script]];
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_')));
  return execFileSync(command, [...prefix, ...args], { cwd, encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });
}

function newest(folder: string): number {
  if (!existsSync(join(root, folder))) return 0;
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => statSync(join(root, folder, file)));
  return Math.max(0, ...files.filter((file) => file.isFile()).map((file) => file.mtimeMs));
}

// The node binary of another version from the registry's platform packages, or why not.
function obtainNode(major: number, folder: string): { path: string } | { reason: string } {
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const name = `node-${platform}-${process.arch}`;
  const where = join(folder, `node-${major}`);
  mkdirSync(where, { recursive: true });
  try {
    writeFileSync(join(where, 'package.json'), '{"private":true}');
    npm(where, 'install', '--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', `${name}@${major}`);
    const path = join(where, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' });
    return version.startsWith(`v${major}.`) ? { path } : { reason: `${name}@${major} is ${version.trim()}` };
  } catch (error) {
    return { reason: `${name}@${major} cannot be installed: ${String((error as Error).message).split('\n')[0]}` };
  }
}

describe.skipIf(!isAsked)('the package (npm run test:pack)', () => {
  let folder = '';
  let packed: Packed;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'banyan-pack-'));
    const built = newest(`prebuilds/${process.platform}-${process.arch}`);
    const sources = Math.max(newest('cpp'), statSync(join(root, 'CMakeLists.txt')).mtimeMs, statSync(join(root, 'sources.gypi')).mtimeMs);
    if (built < sources) execFileSync(process.execPath, [join(root, 'scripts/prebuild.mjs')], { cwd: root, stdio: 'inherit' });
    npm(root, 'run', 'build:js');
    packed = (JSON.parse(npm(root, 'pack', '--json', '--ignore-scripts', '--pack-destination', folder)) as Packed[])[0]!;
    writeFileSync(join(folder, 'package.json'), '{"private":true}');
    npm(folder, 'install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, packed.filename));
    writeFileSync(join(folder, 'required.cjs'), kProgram(`require('banyan')`));
    writeFileSync(join(folder, 'imported.cjs'), kProgram(`await import('banyan')`));
  }, kTimeoutMs);

  afterAll(() => {
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  test('holds what a user needs and nothing else', () => {
    const paths = packed.files.map((file) => file.path);
    const libc = process.platform === 'linux' ? (existsSync('/etc/alpine-release') ? '.musl' : '.glibc') : '';
    const needed = ['README.md', 'LICENSE', 'package.json', 'CMakeLists.txt', 'sources.gypi', 'cpp/banyan.h', 'dist/cli.js'];
    const built = ['dist/index.js', 'dist/index.cjs', 'dist/index.d.ts', 'dist/index.d.cts'];
    const binary = `prebuilds/${process.platform}-${process.arch}/banyan${libc}.node`;
    const demo = ['models/banyan-demo/config.json', 'models/banyan-demo-adapter/adapter_config.json'];
    expect(paths).toEqual(expect.arrayContaining([...needed, ...built, binary, ...demo]));
    expect(paths.filter((path) => /^(test|bench|train|lib|\.ci|\.github)\/|binding\.gyp$|(^|\/)__pycache__\//.test(path))).toEqual([]);
    const models = packed.files.filter(({ path }) => path.startsWith('models/')).reduce((sum, { size }) => sum + size, 0);
    expect(models).toBeLessThan(24e6);
    expect(packed.size - models).toBeLessThan(10e6); // weights hardly get smaller by packing
  });

  test.each(['required.cjs', 'imported.cjs'])(`%s runs with this Node (${process.version})`, (program) => {
    const output = execFileSync(process.execPath, [join(folder, program)], { cwd: folder, encoding: 'utf8' });
    expect(JSON.parse(output)).toMatchObject({ version: process.version });
  });

  test('the command line starts', () => {
    const cli = join(folder, 'node_modules/banyan/dist/cli.js');
    expect(execFileSync(process.execPath, [cli, '--version'], { cwd: folder, encoding: 'utf8' }).trim()).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test.for([20, 22, 24])('runs with Node %i', { timeout: kTimeoutMs }, (major, context) => {
    const node = process.versions.node.startsWith(`${major}.`) ? { path: process.execPath } : obtainNode(major, folder);
    if ('reason' in node) {
      process.stderr.write(`Node ${major} skipped: ${node.reason}\n`);
      return context.skip(node.reason);
    }
    for (const program of ['required.cjs', 'imported.cjs']) {
      const output = execFileSync(node.path, [join(folder, program)], { cwd: folder, encoding: 'utf8' });
      expect((JSON.parse(output) as { version: string }).version).toMatch(new RegExp(`^v${major}\\.`));
    }
  });
});
