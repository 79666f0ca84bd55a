// clang-format: is the C++ formatted as .clang-format says? Says why not when clang-format is not installed. --fix formats.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folders = ['cpp', 'cuda', 'test/cpp'].filter((folder) => existsSync(root + folder));
const files = folders
  .flatMap((folder) => readdirSync(root + folder, { recursive: true }).map((file) => `${folder}/${file}`))
  .filter((file) => /\.(h|cc|inl|cu|cuh)$/.test(file))
  .sort();
const kMajor = '14'; // Debian 12's; other versions break lines differently
const { stdout } = spawnSync('clang-format', ['--version'], { encoding: 'utf8' });
const major = /version (\d+)\./.exec(stdout ?? '')?.[1];
if (major !== kMajor) {
  console.log(`clang-format: skipped, ${major === undefined ? 'it is not installed' : `this is version ${major}, the files follow ${kMajor}`}`);
} else {
  const mode = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '--Werror', '--ferror-limit=1'];
  const { status } = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  console.log(`clang-format: ${files.length} files`);
}
