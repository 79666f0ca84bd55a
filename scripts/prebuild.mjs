// prebuild: prebuilds/<platform>-<arch>/banyan.<libc>.node, one binary for every Node that speaks Node-API 8.
//   node scripts/prebuild.mjs [--arch x64|arm64]
// Linux releases are built in a manylinux_2_28 image, so that the binary asks for no newer glibc than Node itself.
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch as hostArch, platform } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));
const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({ options: { arch: { type: 'string', default: hostArch() } } });
const wrapper = join(root, 'scripts', 'cmake-gyp.mjs');
const cwd = join(root, 'build', 'prebuild');
mkdirSync(cwd, { recursive: true });
if (platform() !== 'win32') chmodSync(wrapper, 0o755);
await prebuildify({
  cwd,
  out: root,
  name: 'banyan',
  arch: values.arch,
  napi: true,
  strip: true,
  tagLibc: platform() === 'linux',
  nodeGyp: platform() === 'win32' ? `"${process.execPath}" "${wrapper}"` : wrapper,
});
const folder = `prebuilds/${platform()}-${values.arch}`;
for (const file of readdirSync(join(root, folder))) console.log(`${folder}/${file}`);
