import { openEngineParts } from '../engine/open.js';
import { splitList } from '../engine/options/values.js';
import { whatIsIn } from '../models/locate.js';
import { modelsFolder } from '../models/modelsFolder.js';
import { prepareModel } from '../prepare/prepare.js';
import { silentReport } from '../util/progressReport.js';
import { InterruptedError, UsageError } from '../util/errors.js';
import { catchInterrupt } from './interrupt.js';
import { readFlag, readText, readTexts, type Arguments } from './options.js';
import { modelJson, modelTable } from './modelTable.js';
import { print, printJson } from './output.js';
import { createReport } from './terminal.js';

/** `prepare --list` and `prepare --remove`: nothing is made. */
async function manageModels(args: Arguments): Promise<void> {
  const modelsDir = modelsFolder(readText(args, 'models-dir'));
  const name = readText(args, 'remove');
  const useless = ['from', 'heads', 'adapter', 'id', 'precision', 'chat-template', 'force'].filter(
    (option) => args[option],
  );
  if (useless.length > 0 || (name !== undefined && readFlag(args, 'list'))) {
    const other = useless.length > 0 ? `--${useless.join(', --')}` : '--list';
    throw new UsageError(`--${name === undefined ? 'list' : 'remove'} does not go with ${other}.`);
  }
  if (name !== undefined) {
    const { removeModel } = await import('../prepare/remove.js');
    const bar = readFlag(args, 'quiet') ? silentReport : createReport();
    return print(`Removed ${await removeModel(modelsDir, name, bar)}`);
  }
  const { listModels } = await import('../models/listModels.js');
  const models = await listModels(modelsDir);
  if (readFlag(args, 'json')) return printJson({ models_dir: modelsDir, models: models.map(modelJson) });
  if (models.length === 0) return print(`No prepared model in ${modelsDir}: ${whatIsIn(modelsDir)}.`);
  modelTable(models).forEach((line) => print(line));
}

/** `medusa-plus prepare`: makes the model, then measures this machine with it. */
export async function runPrepare(args: Arguments): Promise<void> {
  if (readFlag(args, 'json') && !readFlag(args, 'list')) throw new UsageError('--json goes with --list.');
  if (readFlag(args, 'list') || args.remove !== undefined) return manageModels(args);
  const heads = readTexts(args, 'heads');
  const others = heads?.filter((each) => each !== 'none') ?? [];
  if (heads?.includes('none') && others.length > 0) {
    throw new UsageError(
      `--heads none leaves heads out and does not go with --heads ${others.join(', --heads ')}.`,
    );
  }
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
        precisions: readTexts(args, 'precision')?.flatMap((text) => splitList(text)),
        adapter: readText(args, 'adapter'),
        heads: heads?.includes('none') ? [] : heads,
        chatTemplate: readText(args, 'chat-template'),
        force: readFlag(args, 'force'),
        reinstall: readFlag(args, 'force'),
        signal: interrupt.signal,
      },
      report,
    );
    // Opening measures what is not measured yet. A model for CUDA alone cannot be opened here.
    if (model.manifest.backbones.some((backbone) => backbone.layout === 'split')) {
      const opened = await openEngineParts({
        model: model.folder,
        report,
        prepare: false,
        followLoad: false,
        signal: interrupt.signal,
      });
      opened.noteTemplate?.();
      await opened.model.dispose();
    }
    bar?.end();
    print(
      model.isNew ? `Prepared ${model.name} in ${model.folder}` : `${model.name} is ready in ${model.folder}`,
    );
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    throw new InterruptedError('What is finished is kept; run the command again to go on.', { cause: error });
  } finally {
    bar?.end();
    interrupt.release();
  }
}
