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
if (spawnSync('clang-format', ['--version'], { stdio: 'ignore' }).status !== 0) {
  console.log('clang-format: skipped, it is not installed');
} else {
  const mode = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '--Werror', '--ferror-limit=1'];
  const { status } = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  console.log(`clang-format: ${files.length} files`);
}
