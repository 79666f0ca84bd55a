// accuracy: how far Banyan and node-llama-cpp (llama.cpp) are from float32 on the same quantized files.
//   npm run bench:accuracy -- [--models stories,demo,llama-3.2-1b] [--types Q8_0,Q4_0,Q4_K_M,F16] [--positions 1000] [--large-positions 128] [--threads 1]
//     [--reference scalar] [--shared DIR] [--json FILE] [--add] [--markdown FILE]
// The reference is Banyan's kernel variant --reference on a file whose float32 weights are the very numbers that the blocks mean (bench/gguf_blocks.ts), with
// float32 keys and values. Compared is the distribution of the next token after every position: KL(reference || other), mean and largest, in nats.
//   prompt     each text is read at once            steps     token by token, as answers are made
// Rows: Banyan and the peer as they run by default; as controls, Banyan with float32 activations (variant avx512), and the reference's weights with 16-bit
// keys and values, which both programs have.
// The models: stories260K and models/banyan-demo are real, the others have random weights. --add keeps the rows in the --json file;
// --types none only reports. Exit code 1 if Banyan is further away than the peer anywhere, by more than
// two standard errors of the mean difference.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { native as loadNative } from '../lib/binding.js';
import { markdownTable } from '../lib/cli/eval/markdown.js';
import { meanOf } from '../lib/cli/eval/statistics.js';
import { divergence, type Divergence } from './accuracy/divergence.js';
import { ourLogits, peerLogits, type Reading } from './accuracy/logits.js';
import { subjects, type Subject } from './accuracy/subject.js';
import { convertGguf } from './gguf_convert.js';
import type { FileType } from './gguf_writer.js';
import { writeSection } from './page.js';
import { provenance, resumeResults, writeResults, type Measured } from './result_file.js';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string', default: 'stories,demo,llama-3.2-1b' },
    types: { type: 'string', default: 'Q8_0,Q4_0,Q4_K_M,F16' },
    positions: { type: 'string', default: '1000' },
    'large-positions': { type: 'string', default: '128' },
    threads: { type: 'string', default: '1' }, // the peer's threads spin: more than the free cores never end
    reference: { type: 'string', default: 'scalar' },
    shared: { type: 'string' },
    json: { type: 'string' },
    add: { type: 'boolean', default: false },
    markdown: { type: 'string' },
  },
});

type Way = 'prompt' | 'steps';
interface Row {
  model: string;
  type: string;
  way: Way;
  positions: number;
  /** By program, in the order of kPrograms. */
  found: Record<string, Divergence>;
  /** How much further from the reference Banyan is than the peer: mean over positions and its standard error, were they independent. */
  further: { mean: number; error: number };
}
const kPrograms = ['Banyan', 'node-llama-cpp', 'Banyan, float32 activations', 'float32, 16-bit keys and values'] as const;

const earlier = flags.add && flags.json !== undefined ? resumeResults(flags.json, 'accuracy', flags.types !== 'none') : undefined;
const { commit, cpu } = earlier ?? provenance();
const rows = (earlier?.['rows'] ?? []) as Row[];
const threads = Number(flags.threads);
const variants = loadNative().cpuVariants();
const floatVariant = ['avx512', 'avx2', 'neon'].find((variant) => variants.includes(variant));

async function measure(subject: Subject, positions: number, type: FileType): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'banyan-accuracy-'));
  try {
    const [file, exact] = [join(folder, 'quantized.gguf'), join(folder, 'float32.gguf')];
    subject.write(file, type);
    convertGguf(file, exact, 'F32');
    const texts = await subject.texts(positions);
    const count = texts.reduce((sum, ids) => sum + ids.length, 0);
    const reading: Reading = { file, texts, isStepped: false, threads };
    const reference = await ourLogits({ ...reading, file: exact }, 'f32', flags.reference);
    const vocabulary = reference.length / count;
    for (const way of ['prompt', 'steps'] as const) {
      const read: Reading = { ...reading, isStepped: way === 'steps' };
      const found: Record<string, Divergence> = {};
      const add = (program: (typeof kPrograms)[number], logits: Float32Array): Float64Array => {
        const { each, ...far } = divergence(reference, logits, vocabulary);
        found[program] = far;
        const text = `${far.mean.toExponential(2)} mean, ${far.max.toExponential(2)} largest, ${(100 * far.same).toFixed(1)} % the same`;
        console.log(`${`${subject.label} ${type} ${way}`.padEnd(40)}${program.padEnd(34)}${text}`);
        return each;
      };
      const ours = add('Banyan', await ourLogits(read, 'f16'));
      const theirs = add('node-llama-cpp', await peerLogits(read, folder));
      if (floatVariant !== undefined) add('Banyan, float32 activations', await ourLogits(read, 'f16', floatVariant));
      if (way === 'prompt') add('float32, 16-bit keys and values', await ourLogits({ ...read, file: exact }, 'f16'));
      const row = { model: subject.label, type, way, positions: count, found, further: meanOf(Array.from(ours, (far, i) => far - theirs[i]!)) };
      const known = rows.findIndex((each) => each.model === row.model && each.type === type && each.way === way);
      if (known < 0) rows.push(row);
      else rows[known] = row;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const chosen = flags.types.split(',');
for (const subject of subjects(flags.models.split(','), flags.shared)) {
  const positions = Number(subject.isLarge ? flags['large-positions'] : flags.positions);
  for (const type of subject.types.filter((each) => chosen.includes(each))) await measure(subject, positions, type);
}

function table(): string {
  const text = (row: Row, program: string, key: 'mean' | 'max'): string => row.found[program]?.[key].toExponential(1) ?? '-';
  const lines = rows.map((row) => {
    const [ours, theirs] = [row.found['Banyan'], row.found['node-llama-cpp']];
    const ratio = ours === undefined || theirs === undefined ? '-' : (ours.mean / theirs.mean).toFixed(2);
    const { mean, error } = row.further;
    const means = kPrograms.map((program) => text(row, program, 'mean'));
    const largest = (['Banyan', 'node-llama-cpp'] as const).map((program) => text(row, program, 'max'));
    return [`${row.model}, ${row.type}, ${row.way}`, String(row.positions), ...means, ratio, `${(mean / error).toFixed(1)}`, ...largest];
  });
  const head = ['', 'positions', ...kPrograms, 'Banyan / peer', 'difference, standard errors', 'largest, Banyan', 'largest, peer'];
  return markdownTable([head, ...lines]);
}

const section = [`Mean KL from float32, nats; ${cpu}, variants ${variants.join(', ')}, commit ${commit}. \`npm run bench:accuracy\`.`, table()].join(
  '\n\n',
);
console.log(`\n${section}`);
if (flags.json !== undefined) {
  const measured = rows.flatMap(({ model, type, way, found }) =>
    Object.entries(found).map(([program, far]): Measured => {
      return { name: `${model} ${type} ${way} ${program}`, unit: 'nats', isCost: true, values: [far.mean] };
    }),
  );
  writeResults(flags.json, { bench: 'accuracy', commit, cpu, flags, measured, rows });
}
if (flags.markdown !== undefined) writeSection(flags.markdown, 'bench:accuracy', section);
process.exitCode = rows.some((row) => row.further.mean > 2 * row.further.error) ? 1 : 0;
