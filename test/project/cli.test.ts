/** cli: the built command line (dist/cli.js) as a user meets it: output, exit codes, errors, Ctrl-C. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/cli.js');
const hasModel = existsSync(join(root, 'models/banyan-demo/model.safetensors')) && existsSync(join(root, 'models/banyan-demo-adapter'));
const kTimeoutMs = 120_000;

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function banyan(args: string[], input = '', interruptAt?: RegExp): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...args], { cwd: root });
    const ended: Ended = { code: null, out: '', err: '' };
    let isInterrupted = false;
    const look = (): void => {
      if (interruptAt === undefined || isInterrupted || !interruptAt.test(ended.out + ended.err)) return;
      isInterrupted = true;
      child.kill('SIGINT');
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => ((ended.out += text), look()));
    child.stderr.setEncoding('utf8').on('data', (text: string) => ((ended.err += text), look()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ ...ended, code }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

let folder = '';
const path = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'banyan-cli-'));
  writeFileSync(path('small.txt'), 'The river is long and the bridge is old. '.repeat(120));
  writeFileSync(path('large.txt'), 'The river is long and the bridge is old. People cross it every day. '.repeat(40_000));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('usage', () => {
  test('--version and --help end with 0', async () => {
    expect(await banyan(['--version'])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
    const help = await banyan(['--help']);
    expect(help.code).toBe(0);
    for (const command of ['ask', 'chat', 'compress', 'inspect', 'doctor', 'demo']) expect(help.out).toContain(command);
  });
  test.each([
    [['frobnicate']],
    [['ask', 'file.txt']],
    [['ask', '-q', 'Who?']],
    [['compress', 'file.txt']],
    [['ask', 'file.txt', '-q', 'Who?', '--max-tokens', 'many']],
    [['ask', 'file.txt', '-q', 'Who?', '--temperature', '-1']],
    [['ask', 'file.txt', '-q', 'Who?', '--device', 'toaster']],
    [['demo', '--seed', '1.5']],
    [['ask', 'file.txt', '-q', 'Who?', '--method', 'magic']],
    [['ask', 'file.txt', '-q', 'Who?', '--rope-scaling', 'yarn']],
    [['ask', 'file.txt', '-q', 'Who?', '--refresh-every', '0']],
    [['ask', 'file.txt', '-q', 'Who?', '--slot-budget', '-1']],
    [['ask', 'file.txt', '-q', 'Who?', '--budget-unit', 'slot']],
  ])('%j is wrong usage: 2', async (args) => {
    const ended = await banyan(args);
    expect(ended.code).toBe(2);
    expect(ended.out).toBe('');
    expect(ended.err).toMatch(/^banyan: /);
  });
});

describe('doctor', () => {
  test('names the devices, or says why there is none', async () => {
    const shown = await banyan(['doctor']);
    expect(shown.code, shown.err).toBe(0);
    expect(shown.out).toMatch(/^banyan +\d+\.\d+\.\d+ .*\nnode .*\ncpu +cpu \(.+ threads?\); .*\ncuda +(cuda \(|not used: \S)/);
    const facts = JSON.parse((await banyan(['doctor', '--json'])).out) as { cuda: string | null; cudaObstacle: string };
    expect(facts.cuda === null).toBe(facts.cudaObstacle !== '');
  });
});

describe('errors are one line and 1', () => {
  test.each([
    [['inspect', 'no-such-file'], 'BANYAN_FILE_NOT_FOUND'],
    [['ask', 'no-such-file', '-q', 'Who?', '--model', 'no-such-model'], 'BANYAN_FILE_NOT_FOUND'],
    [['inspect', 'package.json'], 'BANYAN_BAD_DOCUMENT'],
  ])('%j: %s', async (args, code) => {
    const ended = await banyan(args);
    expect(ended).toMatchObject({ code: 1, out: '' });
    expect(ended.err.trim().split('\n').at(-1)).toMatch(new RegExp(`^banyan: ${code} `));
  });
});

describe.skipIf(!hasModel)(`with the demo model${hasModel ? '' : ' (it is not there)'}`, { timeout: kTimeoutMs }, () => {
  test('ask streams an answer; the same twice', async () => {
    const first = await banyan(['ask', path('small.txt'), '-q', 'The river is', '-n', '8']);
    expect(first.code, first.err).toBe(0);
    expect(first.out.trim()).not.toBe('');
    expect((await banyan(['ask', path('small.txt'), '-q', 'The river is', '-n', '8'])).out).toBe(first.out);
  });
  test('ask --json prints one object per question, and nothing else', async () => {
    const ended = await banyan(['ask', path('small.txt'), '-q', 'The river is', '-q', 'The bridge is', '-n', '4', '--json']);
    expect(ended.code, ended.err).toBe(0);
    const records = ended.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { question: string; usage: { completionTokens: number }; passages: { text: string }[] });
    expect(records.map((record) => record.question)).toEqual(['The river is', 'The bridge is']);
    for (const record of records) {
      expect(record.usage.completionTokens).toBeLessThanOrEqual(4);
      expect(record.passages[0]!.text).toContain('river');
    }
  });
  test('a text can come from the standard input', async () => {
    const ended = await banyan(['ask', '-', '-q', 'The river is', '-n', '4', '--json'], 'The river is long. '.repeat(50));
    expect(ended.code, ended.err).toBe(0);
  });
  test('compress, inspect, ask the saved document; a damaged one is refused', async () => {
    const saved = path('small.banyan');
    const made = await banyan(['compress', path('small.txt'), '-o', saved, '--json']);
    expect(made.code, made.err).toBe(0);
    const { tokens } = JSON.parse(made.out) as { tokens: number };
    expect(tokens).toBeGreaterThan(500);
    const seen = await banyan(['inspect', saved, '--json']);
    expect(JSON.parse(seen.out)).toMatchObject({ kind: 'document', format: 'banyan-document' });
    const direct = await banyan(['ask', path('small.txt'), '-q', 'The river is', '-n', '8']);
    const again = await banyan(['ask', '--document', saved, '-q', 'The river is', '-n', '8']);
    expect(again.code, again.err).toBe(0);
    expect(again.out).toBe(direct.out);
    truncateSync(saved, 2000);
    const torn = await banyan(['ask', '--document', saved, '-q', 'The river is']);
    expect(torn).toMatchObject({ code: 1, err: expect.stringContaining('BANYAN_BAD_DOCUMENT') });
  });
  test('every method answers, its flags are its own', async () => {
    const asked = ['ask', path('small.txt'), '-q', 'The river is', '-n', '4', '--json'];
    const focus = join(root, 'models/banyan-demo-focus');
    const runs = [
      ['--slot-budget', '200', '--budget-unit', 'chunk'],
      ['--method', 'streaming', '--window', '128', '--sinks', '2'],
      ['--method', 'parallel', '--context-temperature', '1', '--context-scale', '1'],
      ['--method', 'full', '--rope-scaling', 'yarn:64'],
      ...(existsSync(focus) ? [['--adapter', focus, '--refresh-every', '2', '--pool-type', 'q8', '--kv-directory', tmpdir()]] : []),
    ];
    for (const flags of runs) {
      const ended = await banyan([...asked, ...flags]);
      expect(ended.code, `${flags.join(' ')}: ${ended.err}`).toBe(0);
      expect((JSON.parse(ended.out) as { usage: { documentTokens: number } }).usage.documentTokens).toBeGreaterThan(500);
    }
    const wrong = await banyan([...asked, '--method', 'full', '--sinks', '4']);
    expect(wrong).toMatchObject({ code: 2, err: expect.stringContaining('--sinks belongs to --method streaming') });
    const long = await banyan([...asked, '--method', 'full']);
    expect(long).toMatchObject({ code: 1, err: expect.stringContaining('BANYAN_CONTEXT_OVERFLOW') });
    const missing = await banyan([...asked, '--method', 'focusllm']);
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining('BANYAN_ADAPTER_MISMATCH') });
  });
  test('inspect shows a model and an adapter', async () => {
    const model = await banyan(['inspect', 'models/banyan-demo', '--json']);
    expect(JSON.parse(model.out)).toMatchObject({ kind: 'model', architecture: expect.any(String), window: expect.any(Number) });
    const adapter = await banyan(['inspect', 'models/banyan-demo-adapter', '--json']);
    expect(JSON.parse(adapter.out)).toMatchObject({ kind: 'adapter', format: 'banyan-adapter' });
  });
  test('chat answers line by line', async () => {
    const ended = await banyan(['chat', path('small.txt'), '-n', '4', '-t', '0', '--json'], 'The river is\nThe bridge is\n');
    expect(ended.code, ended.err).toBe(0);
    expect(ended.out.trim().split('\n')).toHaveLength(2);
  });
  test('demo finds what it planted in a file', async () => {
    const ended = await banyan(['demo', path('small.txt'), '--json', '-n', '6']);
    expect(ended.code, ended.err).toBe(0);
    const record = JSON.parse(ended.out) as { questions: { kind: string; isRight: boolean | null }[]; peakMemoryBytes: number };
    expect(record.questions.map(({ kind, isRight }) => [kind, isRight])).toEqual([
      ['planted', true],
      ['free', null],
    ]);
    expect(record.peakMemoryBytes).toBeGreaterThan(1e6);
  });
  test.skipIf(process.platform === 'win32')('Ctrl-C ends it with 130', async () => {
    const ended = await banyan(['ask', path('large.txt'), '-q', 'The river is'], '', /load/);
    expect(ended).toMatchObject({ code: 130, out: '' });
    expect(ended.err).toContain('banyan: interrupted');
  });
});
