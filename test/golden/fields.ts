/** fields: a JSON object read key by key. A torn file, a missing key or another type is an Error that names the file. */
import { readFileSync } from 'node:fs';

export class Fields {
  private constructor(
    readonly path: string,
    private readonly values: Record<string, unknown>,
  ) {}

  static read(path: string): Fields {
    return new Fields(path, readObject(path));
  }

  has(name: string): boolean {
    return this.values[name] !== undefined && this.values[name] !== null;
  }

  number(name: string): number {
    const value = this.values[name];
    return typeof value === 'number' ? value : this.fail(name, 'a number');
  }

  text(name: string): string {
    const value = this.values[name];
    return typeof value === 'string' ? value : this.fail(name, 'a string');
  }

  integers(name: string): number[] {
    const value = this.values[name];
    return Array.isArray(value) && value.every(Number.isInteger) ? (value as number[]) : this.fail(name, 'a list of integers');
  }

  list(name: string): unknown[] {
    const value = this.values[name];
    return Array.isArray(value) ? value : this.fail(name, 'a list');
  }

  object(name: string): Fields {
    const value = this.values[name];
    return isObject(value) ? new Fields(this.path, value) : this.fail(name, 'an object');
  }

  objects(name: string): Fields[] {
    return this.list(name).map((value) => (isObject(value) ? new Fields(this.path, value) : this.fail(name, 'a list of objects')));
  }

  private fail(name: string, what: string): never {
    throw new Error(`${this.path}: ${name} is not ${what}`);
  }
}

export function readObject(path: string): Record<string, unknown> {
  const text = readFileSync(path, 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new Error(`${path} is not a JSON object`);
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
