/**
 * pretokenizer: the regular expressions by which the byte-level vocabularies of GGUF files split text into words, by the name in `tokenizer.ggml.pre`.
 * The patterns are those the models were trained with; they are written in the syntax that Oniguruma (the engine of `tokenizers`) and ECMAScript share.
 */

/** How the vocabularies of one `tokenizer.ggml.pre` name are read. */
export interface PreTokenizer {
  /** Applied one after the other; matches and the text between matches become pieces of their own. */
  readonly patterns: readonly string[];
  /** A word that is itself a token is that token, whatever the merges would give. */
  readonly ignoreMerges: boolean;
  /** Whether a file that does not say so wants a BOS token in front. */
  readonly addBos: boolean;
}

const r = String.raw;

// 's 't 're 've 'm 'll 'd in any case; spelled out because (?i:s) would also match U+017F.
const kContraction = r`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`;
const kSpaces = r`\s+(?!\S)|\s+`;
const kLineEnds = r`\s*[\r\n]+`;
const kSymbols = r` ?[^\s\p{L}\p{N}]+[\r\n]*`;
const kWord = r`[^\r\n\p{L}\p{N}]?\p{L}+`;

const kGpt2 = r`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|${kSpaces}`;
const kLlama3 = [kContraction, kWord, r`\p{N}{1,3}`, kSymbols, kLineEnds, kSpaces].join('|');
const kQwen2 = [kContraction, kWord, r`\p{N}`, kSymbols, kLineEnds, kSpaces].join('|');
const kQwen35 = [kContraction, r`[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`, r`\p{N}`, r` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`, kLineEnds, kSpaces].join('|');
const kThreeDigits = '[0-9][0-9][0-9]';

// Words that end in lower case or are all capitals: the o200k family. `tail` is the contraction that may follow.
function casedWords(tail: string): string[] {
  const head = r`[^\r\n\p{L}\p{N}]?`;
  const upper = r`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
  const lower = r`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
  return [`${head}${upper}*${lower}+${tail}`, `${head}${upper}+${lower}*${tail}`];
}
const kPathSymbols = r` ?[^\s\p{L}\p{N}]+[\r\n/]*`;
const kTekken = [...casedWords(''), r`\p{N}`, kPathSymbols, kLineEnds, kSpaces].join('|');
const kGpt4o = [...casedWords(`${kContraction}?`), r`\p{N}{1,3}`, kPathSymbols, kLineEnds, kSpaces].join('|');

// A character class from hexadecimal code points and ranges.
function classOf(ranges: string): string {
  const one = (range: string): string =>
    range
      .split('-')
      .map((point) => `\\x{${point}}`)
      .join('-');
  return `[${ranges.split(' ').map(one).join('')}]`;
}
const kCasedLetters = classOf(
  '41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 3A3-3F5 3F7-481 48A-52F ' +
    '531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D ' +
    '1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC ' +
    '2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 ' +
    '2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F ' +
    '104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943',
);
const kDeepseekPunctuation = classOf('21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002');
const kDeepseekCjk = classOf('4E00-9FA5 800-4E00 AC00-D7FF');
const kHanKana = classOf('4E00-9FA5 3040-309F 30A0-30FF');
const kDeepseek3 = [
  r`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_\x60{|}~][A-Za-z]+`,
  r`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`,
  r` ?[\p{P}\p{S}]+[\r\n]*`,
  kLineEnds,
  kSpaces,
].join('|');
const kBloom = r` ?[^\(\s\|.,!?…。，、।۔،\)]+`;

function row(names: string, patterns: readonly string[], flags: Partial<Omit<PreTokenizer, 'patterns'>> = {}): [string, PreTokenizer][] {
  return names.split(' ').map((name) => [name, { patterns, ignoreMerges: false, addBos: false, ...flags }]);
}

const kTable: ReadonlyMap<string, PreTokenizer> = new Map([
  ...row('default', [r`[\p{P}$+<=>^~|]+`, kGpt2, r`\p{N}+`, kThreeDigits]),
  ...row('llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano', [kLlama3], { ignoreMerges: true, addBos: true }),
  ...row('dbrx smaug-bpe glm4 chatglm-bpe', [kLlama3]),
  ...row('gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe a.x-4.0 mellum modern-bert exaone4', [
    kGpt2,
  ]),
  ...row('mpt olmo jais trillion granite-docling', [kGpt2]),
  ...row('starcoder refact command-r smollm codeshell exaone minerva-7b mellum2', [r`\p{N}`, kGpt2]),
  ...row('qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2', [kQwen2]),
  ...row('qwen35', [kQwen35]),
  ...row('falcon', [r`[\p{P}$+<=>^~|\x60]+`, kGpt2, kThreeDigits]),
  ...row('tekken', [kTekken], { ignoreMerges: true, addBos: true }),
  ...row('gpt-4o llama4 kanana2 talkie minimax-m2', [kGpt4o]),
  ...row('deepseek-llm', [r`[\r\n]`, r`\s?${kCasedLetters}+`, r`\s?${kDeepseekPunctuation}+`, r`\s+$`, `${kDeepseekCjk}+`, r`\p{N}+`]),
  ...row('deepseek-coder', [r`[\r\n]`, r`\s?\p{L}+`, r`\s?\p{P}+`, `${kDeepseekCjk}+`, r`\p{N}`]),
  ...row('deepseek-v3 hunyuan-dense joyai-llm hy_v4', [r`\p{N}{1,3}`, `${kHanKana}+`, kDeepseek3]),
  ...row('poro-chat bloom gpt3-finnish', [kBloom]),
  ...row('viking', [kBloom, r`\p{N}`]),
  ...row('bailingmoe bailingmoe2 llada-moe', [
    [r`'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])`, kWord, r`\p{N}`, kSymbols, r`\s*[\r\n]`, kSpaces].join('|'),
  ]),
  ...row('seed-coder', [[kContraction, kWord, r`\p{N}`, r` ?[^\s\p{L}\p{N}\r\n]+`, kLineEnds, kSpaces].join('|')]),
  ...row('minicpm5', [r`\p{N}{1,3}`, [kContraction, kWord, r`\p{N}+`, kSymbols, kLineEnds, kSpaces].join('|')], { ignoreMerges: true }),
]);

/** The pre-tokenizer of a `tokenizer.ggml.pre` name, undefined when the name is not known. A file without the key has the name `default`. */
export function preTokenizerOf(name: string): PreTokenizer | undefined {
  return kTable.get(name);
}

/** The pattern of the `ByteLevel` pre-tokenizer of tokenizer.json files. */
export const kByteLevelPattern = kGpt2;

/** All known names, for error messages. */
export function preTokenizerNames(): string[] {
  return [...kTable.keys()];
}
