/** child: a sample in a process of its own. */
import { spawn } from 'node:child_process';

/** Runs a program; what it prints last is its result, as JSON. */
export function runForJson<T>(command: string, args: readonly string[]): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (data: Buffer) => (text += data.toString()));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code !== 0) return reject(new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}`));
      resolve(JSON.parse(text.trim().split('\n').at(-1)!) as T);
    });
  });
}
