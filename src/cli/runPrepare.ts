import { openEngineParts } from '../engine/open.js';
import { modelsFolder } from '../models/modelsFolder.js';
import { prepareModel } from '../prepare/prepare.js';
import { silentReport } from '../util/progressReport.js';
import { InterruptedError } from '../util/errors.js';
import { catchInterrupt } from './interrupt.js';
import { readFlag, readText, readTexts, type Arguments } from './options.js';
import { print } from './output.js';
import { createReport } from './terminal.js';

/** `medusa-plus prepare`: makes the model, then measures this machine with it. */
export async function runPrepare(args: Arguments): Promise<void> {
  const heads = readTexts(args, 'heads');
  const interrupt = catchInterrupt();
  const bar = readFlag(args, 'quiet') ? undefined : createReport();
  const report = bar ?? silentReport;
  try {
    const modelsDir = modelsFolder(readText(args, 'models-dir'));
    const model = await prepareModel(
      {
        modelsDir,
        from: readText(args, 'from'),
        id: readText(args, 'id'),
        precisions: readTexts(args, 'precision'),
        adapter: readText(args, 'adapter'),
        heads: heads?.includes('none') ? [] : heads,
        force: readFlag(args, 'force'),
        reinstall: readFlag(args, 'force'),
        signal: interrupt.signal,
      },
      report,
    );
    // Opening measures what is not measured yet. A model for CUDA alone cannot be opened here.
    if (model.manifest.backbones.some((backbone) => backbone.layout === 'split')) {
      const { model: opened } = await openEngineParts({
        model: model.folder,
        report,
        prepare: false,
        signal: interrupt.signal,
      });
      await opened.dispose();
    }
    bar?.end();
    print(
      model.isNew ? `Prepared ${model.name} in ${model.folder}` : `${model.name} is ready in ${model.folder}`,
    );
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    throw new InterruptedError('What was fetched is kept; run the command again to go on.', { cause: error });
  } finally {
    bar?.end();
    interrupt.release();
  }
}
