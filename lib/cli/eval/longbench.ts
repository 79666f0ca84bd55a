/** longbench: the tasks of LongBench (arXiv 2308.14508), by the names of its files. The instructions are ours; --prompts reads others. */
import type { Benchmark, BenchmarkTask } from './benchmark.js';
import { classification, codeSimilarity, numberShare, rougeL, wordF1, type Metric } from './metrics.js';

const task = (metric: Metric, maxTokens: number, instruction: string, more: Partial<BenchmarkTask> = {}): BenchmarkTask => ({
  ...{ metric, maxTokens, instruction, isFirstLine: false, isPlain: false },
  ...more,
});
const kAnswer = 'Answer the question about the text in as few words as you can.\n\nQuestion: {input}\nAnswer:';
const kSummary = 'Write a summary of the text, of at most one page.\n\nSummary:';
const kFewShots = { isFirstLine: true, isPlain: true };

export const kLongbench: Benchmark = {
  name: 'LongBench',
  tasks: {
    narrativeqa: task(wordF1, 128, kAnswer),
    qasper: task(wordF1, 128, `If the text does not tell, answer "unanswerable"; answer yes-or-no questions with "yes" or "no". ${kAnswer}`),
    multifieldqa_en: task(wordF1, 64, kAnswer),
    hotpotqa: task(wordF1, 32, kAnswer),
    '2wikimqa': task(wordF1, 32, kAnswer),
    musique: task(wordF1, 32, kAnswer),
    gov_report: task(rougeL, 512, kSummary),
    qmsum: task(rougeL, 512, 'Answer the question about the meeting in one or more sentences.\n\nQuestion: {input}\nAnswer:'),
    multi_news: task(rougeL, 512, kSummary),
    trec: task(classification, 64, '{input}', kFewShots),
    triviaqa: task(wordF1, 32, '{input}', kFewShots),
    samsum: task(rougeL, 128, '{input}', kFewShots),
    passage_count: task(
      numberShare,
      32,
      'Some of these paragraphs are repeated. How many different paragraphs are there? Answer with the number only.\n\nAnswer:',
    ),
    passage_retrieval_en: task(
      numberShare,
      32,
      'Which paragraph does this summary belong to?\n\n{input}\n\nAnswer with its number, as in "Paragraph 1".\n\nAnswer:',
    ),
    lcc: task(codeSimilarity, 64, 'Next line of code:\n', { isPlain: true }),
    'repobench-p': task(codeSimilarity, 64, '{input}Next line of code:\n', { isPlain: true }),
  },
  sampleOf: (line) => ({
    context: String(line['context'] ?? ''),
    input: String(line['input'] ?? ''),
    references: (Array.isArray(line['answers']) ? line['answers'] : [line['answers']]).map(String),
    classes: Array.isArray(line['all_classes']) ? line['all_classes'].map(String) : [],
    isSupported: line['language'] === undefined || line['language'] !== 'zh',
  }),
};
