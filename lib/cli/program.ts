/** program: the list of commands. */
import { Command } from 'commander';
import {
  addGenerationOptions,
  addMethodOption,
  addModelOptions,
  addSessionOptions,
  collect,
  type AskFlags,
  type ChatFlags,
  type CompressFlags,
  type DemoFlags,
  type DoctorFlags,
  type InspectFlags,
} from './options.js';
import { readPackage } from './models.js';
import { ask } from './ask.js';
import { chat } from './chat.js';
import { compress } from './compress.js';
import { demo } from './demo.js';
import { doctor } from './doctor.js';
import { addEvalCommand } from './eval/command.js';
import { inspect } from './inspect.js';

export function createProgram(): Command {
  const program = new Command('banyan')
    .description('Language models that read far beyond their window: a document is compressed once, then asked.')
    .version(readPackage().version)
    .showHelpAfterError('(banyan --help lists the commands, banyan COMMAND --help their options)')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'banyan: ')) })
    .exitOverride();

  const asking = program.command('ask').description('ask about files').argument('[files...]', 'texts to read; - is the standard input');
  asking.requiredOption('-q, --question <text>', 'the question; may be repeated, the files are read once', collect);
  addSessionOptions(addGenerationOptions(addModelOptions(asking), { temperature: 0 })).action((files: string[], flags: AskFlags) =>
    ask(files, flags),
  );

  const chatting = program.command('chat').description('talk, with files if there are any').argument('[files...]', 'texts to read');
  addSessionOptions(addGenerationOptions(addModelOptions(chatting), { temperature: 0.7 })).action((files: string[], flags: ChatFlags) =>
    chat(files, flags),
  );

  const compressing = program
    .command('compress')
    .description('compress files into one saved document')
    .argument('<files...>', 'texts to read, in this order');
  addMethodOption(addModelOptions(compressing))
    .requiredOption('-o, --output <file>', 'the saved document, e.g. book.banyan')
    .option('--eager', 'compute every node now, so that no question has to')
    .action((files: string[], flags: CompressFlags) => compress(files, flags));

  program
    .command('inspect')
    .description('what is in a model, an adapter or a saved document')
    .argument('<path>', 'GGUF file, model directory, adapter directory or .banyan file')
    .option('--json', 'print JSON, and nothing else, on the standard output')
    .action((path: string, flags: InspectFlags) => inspect(path, flags));

  program
    .command('doctor')
    .description('what Banyan can use on this machine: processor and GPU, or why not')
    .option('--json', 'print JSON, and nothing else, on the standard output')
    .action((flags: DoctorFlags) => doctor(flags));

  const showing = program.command('demo').description('read a long text with the demo model and show what happened');
  showing.argument('[files...]', "texts to read (default: the documentation of this computer's npm)");
  addGenerationOptions(addModelOptions(showing), { maxTokens: 24, temperature: 0 })
    .option('-q, --question <text>', 'what to ask besides the planted sentence')
    .option('--no-plant', 'do not plant a sentence in the text')
    .action((files: string[], flags: DemoFlags) => demo(files, flags));

  addEvalCommand(program);
  return program;
}
