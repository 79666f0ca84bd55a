/** dispose: gives older Node versions the symbol that `await using` looks for. Imported before any class that has it. */

if (Symbol.asyncDispose === undefined) {
  Object.defineProperty(Symbol, 'asyncDispose', { value: Symbol.for('nodejs.asyncDispose') });
}

export {};
