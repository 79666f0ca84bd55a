/** metrics: how good an answer is against one reference, 0 to 1. Definitions: LongBench (arXiv 2308.14508), InfiniteBench (arXiv 2402.13718), ROUGE (Lin 2004). */

/** What a metric may look at besides answer and reference. */
export interface Sample {
  /** The task's classes, or the choices in their order. */
  classes: readonly string[];
}

export type Metric = (answer: string, reference: string, sample: Sample) => number;

// Lower case, no ASCII punctuation, no English articles, single spaces.
function words(text: string): string[] {
  return text
    .toLowerCase()
    .replace(/[!-/:-@[-`{-~]/g, '')
    .replace(/\b(a|an|the)\b/g, ' ')
    .split(/\s+/)
    .filter((word) => word !== '');
}

const f1 = (common: number, ours: number, theirs: number): number => (common === 0 ? 0 : (2 * common) / (ours + theirs));

/** F1 over words as multisets. */
export const wordF1: Metric = (answer, reference) => {
  const [ours, theirs] = [words(answer), words(reference)];
  const left = new Map<string, number>();
  for (const word of theirs) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of ours) {
    const count = left.get(word) ?? 0;
    if (count > 0) {
      common++;
      left.set(word, count - 1);
    }
  }
  return f1(common, ours.length, theirs.length);
};

/** ROUGE-L: F1 of the longest common subsequence of words, over the whole texts. */
export const rougeL: Metric = (answer, reference) => {
  const split = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const [ours, theirs] = [split(answer), split(reference)];
  return f1(commonLength(ours, theirs), ours.length, theirs.length);
};

/** 1 if the normalized texts are the same. */
export const exactMatch: Metric = (answer, reference) => (words(answer).join(' ') === words(reference).join(' ') ? 1 : 0);

/** The class is named, and no other one; several named ones share the point. */
export const classification: Metric = (answer, reference, { classes }) => {
  const named = classes.filter((each) => answer.includes(each) && !(each !== reference && reference.includes(each)));
  return named.includes(reference) ? 1 / named.length : 0;
};

const numbersOf = (text: string): string[] => text.match(/\d+/g) ?? [];
const share = (numbers: readonly string[], wanted: string | undefined): number =>
  numbers.length === 0 ? 0 : numbers.filter((number) => number === wanted).length / numbers.length;

/** Of the numbers in the answer, the share that is the reference's first one: paragraphs found, things counted. */
export const numberShare: Metric = (answer, reference) => share(numbersOf(answer), numbersOf(reference)[0]);

/** The first whole number is the reference. */
export const firstInteger: Metric = (answer, reference) => (numbersOf(answer)[0] === reference.trim() ? 1 : 0);

/** The first number, decimal or not, equals the reference. */
export const firstNumber: Metric = (answer, reference) => {
  const found = /-?\d+(\.\d+)?/.exec(answer);
  return found !== null && Number(found[0]) === Number(reference) ? 1 : 0;
};

/** The last word is the reference. */
export const lastWord: Metric = (answer, reference) => (answer.trim().split(/\s+/).at(-1) === reference.trim() ? 1 : 0);

/** The reference stands in the answer as a word. */
export const containsWord: Metric = (answer, reference) => (answer.split(/[\s:"'.,?!{}]+/).includes(reference) ? 1 : 0);

/** The reference stands in the answer, whatever the case. */
export const containsText: Metric = (answer, reference) => (answer.toLowerCase().includes(reference.toLowerCase()) ? 1 : 0);

/** The letter, or the text, of the right choice comes first of all choices. */
export const choice: Metric = (answer, reference, { classes }) => {
  const letter = String.fromCharCode(65 + classes.indexOf(reference));
  const named = /(?:^|[^A-Za-z])([A-D])(?:$|[^A-Za-z])/.exec(answer);
  if (named !== null) return named[1] === letter ? 1 : 0;
  const places = classes.map((each) => answer.indexOf(each)).map((at) => (at < 0 ? Infinity : at));
  return classes[places.indexOf(Math.min(...places))] === reference && Math.min(...places) < Infinity ? 1 : 0;
};

/** Of the first line of code, twice the common subsequence of characters over both lengths. */
export const codeSimilarity: Metric = (answer, reference) => {
  const line = answer.replace(/^\n+/, '').split('\n').find((each) => !/[`#]|\/\//.test(each)) ?? ''; // prettier-ignore
  return f1(commonLength([...line], [...reference]), [...line].length, [...reference].length);
};

// Of the longest common subsequence.
function commonLength(a: readonly string[], b: readonly string[]): number {
  let above = new Int32Array(b.length + 1);
  for (const item of a) {
    const row = new Int32Array(b.length + 1);
    for (let j = 0; j < b.length; j++) row[j + 1] = item === b[j] ? above[j]! + 1 : Math.max(above[j + 1]!, row[j]!);
    above = row;
  }
  return above[b.length]!;
}
