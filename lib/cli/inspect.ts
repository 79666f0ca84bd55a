/** inspect: what is in a model, an adapter or a saved document. */
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { BanyanError } from '../errors.js';
import { bytes, count, table } from './format.js';
import { readHeader, type Header } from './header.js';
import { interruptible } from './interrupt.js';
import { openModel } from './models.js';
import { createProgress } from './progress.js';
import type { InspectFlags } from './options.js';

type Facts = Record<string, unknown>;

export async function inspect(path: string, flags: InspectFlags): Promise<void> {
  const facts = await inspectPath(path);
  if (flags.json) process.stdout.write(`${JSON.stringify(facts)}\n`);
  else process.stdout.write(`${table(rowsOf(facts), '')}\n`);
}

async function inspectPath(path: string): Promise<Facts> {
  const isDirectory = (await stat(path)).isDirectory();
  if (isDirectory && existsSync(join(path, 'adapter_config.json')))
    return inspectAdapter(join(path, 'adapter_config.json'), join(path, 'adapter.safetensors'));
  if (isDirectory || extname(path) === '.gguf') return inspectModel(path);
  const header = await readHeader(path, 'BANYAN_BAD_DOCUMENT');
  if (header.tensors.some((tensor) => /cross_attn|beacon_/.test(tensor.name))) return { kind: 'adapter', ...adapterFacts(header) };
  return { kind: 'document', bytes: header.bytes, tensors: header.tensors.length, ...header.metadata };
}

async function inspectAdapter(configPath: string, tensorsPath: string): Promise<Facts> {
  let config: Facts;
  try {
    config = JSON.parse(await readFile(configPath, 'utf8')) as Facts;
  } catch (error) {
    throw error instanceof SyntaxError ? new BanyanError('BANYAN_BAD_ADAPTER', `${configPath}: ${error.message}`) : error;
  }
  return { kind: 'adapter', ...config, ...adapterFacts(await readHeader(tensorsPath, 'BANYAN_BAD_ADAPTER')) };
}

function adapterFacts({ bytes, tensors }: Header): Facts {
  const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  return { parameters, bytes, tensors: tensors.length };
}

async function inspectModel(path: string): Promise<Facts> {
  return interruptible(async (signal) => {
    await using model = await openModel({ model: path, device: 'auto', json: true }, signal, createProgress());
    return { kind: 'model', ...model.info };
  });
}

function rowsOf(facts: Facts): (readonly [string, string])[] {
  return Object.entries(facts).flatMap(([name, value]): (readonly [string, string])[] => {
    if (value === null || value === undefined || value === '') return [];
    if (name === 'bytes') return [[name, bytes(Number(value))]];
    if (typeof value === 'number') return [[name, Number.isInteger(value) && value >= 0 ? count(value) : String(value)]];
    if (ArrayBuffer.isView(value) || Array.isArray(value)) return [[name, Array.from(value as ArrayLike<unknown>).join(', ')]];
    if (typeof value === 'object') return rowsOf(value as Facts).map(([inner, text]) => [`${name}.${inner}`, text] as const);
    return [[name, String(value)]];
  });
}
