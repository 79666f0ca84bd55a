/** infinitebench: the tasks of InfiniteBench (arXiv 2402.13718) that one answer can be scored for, by the names of its files. The instructions are ours. */
import type { Benchmark, BenchmarkTask } from './benchmark.js';
import { choice, containsText, containsWord, firstInteger, firstNumber, lastWord, rougeL, wordF1, type Metric } from './metrics.js';

const task = (metric: Metric, maxTokens: number, instruction: string): BenchmarkTask => ({
  ...{ metric, maxTokens, instruction },
  ...{ isFirstLine: false, isPlain: false },
});
const kChoices = '{input}\n\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n\nAnswer with one letter.\n\nAnswer:';

export const kInfinitebench: Benchmark = {
  name: 'InfiniteBench',
  tasks: {
    passkey: task(firstInteger, 6, '{input}\n\nThe pass key is'),
    number_string: task(firstInteger, 12, '{input}\n\nThe sequence of digits is'),
    kv_retrieval: task(containsWord, 50, '{input}'),
    longbook_qa_eng: task(wordF1, 40, 'Answer the question about the book briefly.\n\nQuestion: {input}\nAnswer:'),
    longbook_choice_eng: task(choice, 40, `Answer the question about the book.\n\nQuestion: ${kChoices}`),
    longbook_sum_eng: task(rougeL, 1200, 'Write a summary of the book.\n\nSummary:'),
    longdialogue_qa_eng: task(
      containsText,
      40,
      'In the dialogue one name is hidden as "$$MASK$$". Whose is it? Answer with the name only.\n\nThe name is',
    ),
    math_find: task(firstNumber, 3, '{input}\n\nAnswer:'),
    code_run: task(lastWord, 5, '{input}\n\nThe return value is:'),
    code_debug: task(choice, 5, `One of these functions has a deliberate error. Which?\n\n${kChoices}`),
  },
  sampleOf: (line) => {
    const answer = line['answer'];
    return {
      context: String(line['context'] ?? ''),
      input: String(line['input'] ?? ''),
      references: (Array.isArray(answer) ? answer : [answer]).map(String),
      classes: Array.isArray(line['options']) ? line['options'].map(String) : [],
      isSupported: true,
    };
  },
};
