import type { CommandModule } from 'yargs';
import { addOptions, flag, optionSpecs, type Arguments } from './options.js';

export const generateCommand: CommandModule<object, Arguments> = {
  command: 'generate [prompt]',
  describe: 'Generate text after a prompt',
  builder: (yargs) =>
    addOptions(yargs, optionSpecs('generate'))
      .positional('prompt', {
        describe: 'The prompt (behind -- when it begins with a dash); - or nothing reads standard input',
      })
      .options({
        file: { group: 'Prompt:', describe: 'Read the prompt from this file', requiresArg: true },
        'show-tree': flag('Output:', "Draw each step's tree on stderr: tokens, probabilities, accepted path"),
        'raw-output': flag(
          'Output:',
          "Control characters in the model's text to a terminal as they are, instead of shown as \\x1b",
        ),
        json: flag('Output:', 'Print one JSON object instead of the text'),
        quiet: flag('Output:', 'Nothing on stderr but errors'),
      })
      .example('$0 generate "Why is the sky blue?"', 'Answer a question')
      .example('cat notes.txt | $0 generate --system "Summarise."', 'Prompt from standard input')
      .example('$0 generate "Count to ten." --paper --nodes 64 --show-tree', "The paper's tree, drawn")
      .strict(),
  handler: async (args) => {
    const { runGenerate } = await import('./runGenerate.js');
    await runGenerate(args);
  },
};
