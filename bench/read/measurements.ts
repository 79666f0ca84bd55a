/** measurements: the commands of "What is read" in docs/results.md. */

export interface Measurement {
  /** Of its section. */
  name: string;
  /** Behind `banyan eval`; the texts come behind its first word. */
  command: string;
  /** Files of the folder of data. */
  texts: readonly string[];
  hasPlots: boolean;
}

const kBooks = 'books-valid.jsonl.xz';
const kCode = 'code-valid.jsonl.xz';
const kModel = '-m models/banyan-demo';
const kShared = `${kModel} -a models/banyan-demo-adapter`;
const kFocus = `${kModel} -a models/banyan-demo-focus`;

const one = (name: string, text: string, command: string, hasPlots = true): Measurement => ({ name, command, texts: [text], hasPlots });
// Both kinds of text, one after the other.
const both = (name: string, command: string, hasPlots = true): Measurement[] => [
  one(`${name}-books`, kBooks, command, hasPlots),
  one(`${name}-code`, kCode, command, hasPlots),
];

export const kMeasurements: readonly Measurement[] = [
  ...both('lookup', `lookup ${kShared} --systems sharedllm --lengths 4K,8K,32K,128K,400K --trials 20`),
  one('lookup-budget', kBooks, `lookup ${kShared} --systems sharedllm --slot-budget 4096 --lengths 8K,128K,400K --trials 20`, false),
  // A chunk of 512 takes a place of the window of 1024: 400K tokens take 800 of them.
  one('lookup-focus', kBooks, `lookup ${kFocus} --systems focusllm --lengths 4K,8K,32K,128K,400K --trials 20`),
  one('lookup-others', kBooks, `lookup ${kModel} --systems window,streaming --lengths 4K,8K,32K,128K --trials 20`),
  one(
    'passkey',
    kBooks,
    `lookup ${kShared} -a models/banyan-demo-focus --task passkey --systems window,sharedllm,focusllm --lengths 960,4K,32K --depths 0,50,100 --trials 20`,
    false,
  ),
  ...both(
    'perplexity',
    `perplexity ${kShared} --systems window,sharedllm,streaming,linear,ntk,yarn --last 256 --lengths 1K,2K,4K,8K,16K,32K,64K,128K --samples 20 --longest-full 8K`,
  ),
  ...both('perplexity-focus', `perplexity ${kFocus} --systems window,focusllm --last 64 --local 256 --lengths 1K,2K,4K,8K,16K,32K --samples 16`),
  // Behind 448 local tokens documents of 1, 4, 8, ... 512.
  one(
    'short',
    kBooks,
    `perplexity ${kShared} --systems window,sharedllm --last 256 --local 448 --lengths 705,708,712,720,736,768,832,960,1216 --samples 20`,
    false,
  ),
  ...both('context', `perplexity ${kModel} --systems window --last 64 --lengths 128,192,256,384,512,768,1024 --samples 200`, false),
];
