import type { CommandModule } from 'yargs';
import { modelOptionSpecs, type Arguments } from './options.js';

export const doctorCommand: CommandModule<object, Arguments> = {
  command: 'doctor',
  describe: 'Say what is found on this machine: ONNX Runtime, CUDA, CPU, models and heads',
  builder: (yargs) =>
    yargs
      .options({
        'models-dir': modelOptionSpecs['models-dir'],
        'ort-library': modelOptionSpecs['ort-library'],
        measure: { describe: 'Measure again what a step costs, for each precision', type: 'boolean' },
        json: { describe: 'Print one JSON object', type: 'boolean' },
      })
      .strict(),
  handler: async (args) => {
    const { runDoctor } = await import('./runDoctor.js');
    await runDoctor(args);
  },
};
