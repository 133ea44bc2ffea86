import type { DamagedModel, ModelSummary } from '../models/listModels.js';
import { visibleInLine } from '../util/terminalText.js';

const gigabytes = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

/** The prepared models as lines of a table, and under it what is wrong with those that are damaged. */
export function modelTable(models: readonly (ModelSummary | DamagedModel)[]): string[] {
  const head = ['name', 'family', 'size', 'precisions', 'heads', 'on disk', 'chat template', 'made from'];
  const rows = models.map((model) =>
    'error' in model
      ? [model.name, 'damaged', '', '', '', gigabytes(model.bytes), '', '']
      : [
          model.name,
          model.family,
          model.size,
          model.precisions.join(', '),
          model.heads.join(', ') || 'none',
          gigabytes(model.bytes),
          model.chatTemplate,
          model.source,
        ],
  );
  const all = [head, ...rows].map((row) => row.map(visibleInLine));
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const lines = all.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join('  '));
  const damages = models.flatMap((model) =>
    'error' in model ? [visibleInLine(`${model.name}: ${model.error}`)] : [],
  );
  return [...lines.map((line) => line.trimEnd()), ...damages];
}

/** One of them as JSON has it: the names of the columns, without spaces. */
export function modelJson(model: ModelSummary | DamagedModel): object {
  if ('error' in model) return model;
  const { chatTemplate, source, ...others } = model;
  return { ...others, chat_template: chatTemplate, made_from: source };
}
