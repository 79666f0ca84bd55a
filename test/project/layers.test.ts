/** layers: who may include whom, how long a file may be, and that the one source list names the files that exist. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

const kMayInclude: Record<string, readonly string[]> = {
  base: ['base'],
  tensor: ['base', 'tensor'],
  device: ['base', 'tensor', 'device'],
  cpu: ['base', 'tensor', 'device', 'cpu'],
  cuda: ['base', 'tensor', 'device', 'cuda'],
  model: ['base', 'tensor', 'device', 'model'],
  engine: ['base', 'tensor', 'device', 'model', 'engine', 'banyan.h'],
  'banyan.h': ['base', 'tensor', 'model'],
  addon: ['banyan.h', 'addon', 'napi.h'],
};
const kMaxLines = 600;

function filesOf(folder: string, ending: RegExp): string[] {
  if (!existsSync(join(root, folder))) return [];
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file.replaceAll('\\', '/')}`);
  return files.filter((file) => ending.test(file) && !file.includes('node_modules')).sort();
}
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

const cpp = [...filesOf('cpp', /\.(h|cc|inl)$/), ...filesOf('cuda', /\.(cu|cuh|h|cc)$/)];
const roomOf = (file: string): string => (file.startsWith('cuda/') ? 'cuda' : file.split('/')[1]!);

describe('includes follow the layers', () => {
  // A quoted include without a folder is a file of the same room.
  const includesOf = (file: string): string[] => {
    const folder = file.slice(0, file.lastIndexOf('/'));
    const targets = [...read(file).matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].map((match) => match[1]!);
    return targets.filter((target) => target.includes('/') || !cpp.includes(`${folder}/${target}`));
  };
  test('every room is known', () => {
    expect(cpp.length).toBeGreaterThan(10);
    expect([...new Set(cpp.map(roomOf))].filter((room) => !(room in kMayInclude))).toEqual([]);
  });
  test.each(Object.entries(kMayInclude))('%s includes at most %j', (room, allowed) => {
    const foreign = (file: string): string[] => includesOf(file).filter((target) => !allowed.includes(target.split('/')[0]!));
    const found = cpp.filter((file) => roomOf(file) === room).flatMap((file) => foreign(file).map((target) => `${file} includes ${target}`));
    expect(found).toEqual([]);
  });
  test('only addon knows Node, only cuda knows CUDA', () => {
    const others = cpp.filter((file) => !['addon', 'cuda'].includes(roomOf(file)));
    expect(others.filter((file) => /#\s*include\s+[<"](napi|node_api|js_native_api|cuda)/.test(read(file)))).toEqual([]);
  });
});

describe('size', () => {
  const ours = [
    ...cpp,
    ...filesOf('lib', /\.ts$/),
    ...filesOf('types', /\.ts$/),
    ...filesOf('test', /\.(ts|cc|h)$/),
    ...filesOf('scripts', /\.mjs$/),
  ];
  test(`no file is over ${kMaxLines} lines`, () => {
    expect(ours.filter((file) => read(file).split('\n').length > kMaxLines + 1)).toEqual([]);
  });
});

describe('source lists', () => {
  const { variables } = JSON.parse(read('sources.gypi')) as { variables: Record<string, string[]> };
  const listed = Object.values(variables).flat();
  test('sources.gypi lists every source once', () => {
    expect([...listed].sort()).toEqual([...filesOf('cpp', /\.cc$/), ...filesOf('cuda', /\.(cc|cu)$/)]);
  });
  test('test/cpp/CMakeLists.txt lists every test source', () => {
    const inCmake = [...read('test/cpp/CMakeLists.txt').matchAll(/\b(?:ops|model|engine)\/\w+\.cc/g)].map((match) => `test/cpp/${match[0]}`);
    expect(inCmake.sort()).toEqual(filesOf('test/cpp', /\.cc$/));
  });
  test('both builds name every group; gyp leaves CUDA out', () => {
    const gyp = read('binding.gyp');
    const cmake = read('CMakeLists.txt');
    for (const group of Object.keys(variables)) {
      const isCuda = group === 'cuda_sources' || group === 'emulate_sources';
      if (!isCuda) expect(gyp).toContain(`<@(${group})`);
      expect(cmake).toMatch(new RegExp(`(banyan_sources\\(|banyan_backends )[^)]*\\b${group.replace('_sources', '')}\\b`));
    }
  });
});

describe('errors', () => {
  test('the codes of the engine, the SDK and docs/errors.md are the same', () => {
    const codes = (text: string): string[] => [...new Set(text.match(/BANYAN_[A-Z_]+/g))].sort();
    const engine = codes(read('cpp/base/error.cc'));
    const sdk = codes(read('lib/errors.ts')).filter((code) => code !== 'BANYAN_');
    const documented = codes(read('docs/errors.md'));
    expect(sdk).toEqual(expect.arrayContaining(engine));
    expect(documented).toEqual(sdk);
  });
});
