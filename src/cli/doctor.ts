import type { CommandModule } from 'yargs';
import { flag, optionSpecs, type Arguments } from './options.js';

export const doctorCommand: CommandModule<object, Arguments> = {
  command: 'doctor',
  describe: 'Say what is found on this machine: ONNX Runtime, CUDA, CPU, models and heads',
  builder: (yargs) =>
    yargs
      .options({
        ...optionSpecs('doctor'),
        measure: flag(undefined, 'Measure again what a step costs, for each precision'),
        json: flag(undefined, 'Print one JSON object'),
      })
      .strict(),
  handler: async (args) => {
    const { runDoctor } = await import('./runDoctor.js');
    await runDoctor(args);
  },
};
