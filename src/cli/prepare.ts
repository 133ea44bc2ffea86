import { precisionNames } from '../models/precisions.js';
import type { CommandModule } from 'yargs';
import { flag, optionSpecs, type Arguments } from './options.js';

export const prepareCommand: CommandModule<object, Arguments> = {
  command: 'prepare',
  describe: 'Fetch, convert and export a model (the default one without options)',
  builder: (yargs) =>
    yargs
      .options({
        from: {
          describe:
            'HF folder (config.json, safetensors or .bin files, tokenizer), .gguf file, or a name on the Hugging Face ' +
            'hub: OWNER/NAME[@REVISION][:FILE.gguf]',
          requiresArg: true,
        },
        id: { describe: "Name of the model; from the source's (and adapter's) otherwise", requiresArg: true },
        ...optionSpecs('prepare'),
        precision: {
          describe: `Precision of the base model: ${precisionNames.join(', ')} (CUDA); several with commas; adds to what is there`,
          requiresArg: true,
          defaultDescription: 'int8; int8-block for Gemma',
        },
        adapter: {
          describe:
            'MEDUSA-2 adapter (*.adapter.safetensors) to merge into the weights; makes a model of its own',
          requiresArg: true,
        },
        heads: {
          describe:
            'Medusa heads file, folder or name on the hub to export along; may be repeated; none leaves them out',
          requiresArg: true,
          defaultDescription:
            'heads/<model>/*.safetensors, those beside the adapter, or those in the model folder',
        },
        list: flag(undefined, 'Only list the prepared models'),
        remove: { describe: 'Only remove the prepared model of this name', requiresArg: true },
        json: flag(undefined, 'With --list: print one JSON object'),
        force: flag(undefined, 'Make it again even if it is there, and install the Python packages again'),
        quiet: flag(undefined, 'Nothing on stderr but errors'),
      })
      .example('$0 prepare', 'The default model')
      .example(
        '$0 prepare --from lmsys/vicuna-7b-v1.3 --heads FasterDecoding/medusa-vicuna-7b-v1.3',
        'From the Hugging Face hub',
      )
      .example(
        '$0 prepare --from ./Llama-2-7b-hf --heads ./medusa_lm_head.safetensors --precision fp16',
        'Your own',
      )
      .strict(),
  handler: async (args) => {
    const { runPrepare } = await import('./runPrepare.js');
    await runPrepare(args);
  },
};
