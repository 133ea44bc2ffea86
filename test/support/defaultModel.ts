import { defaultModelName } from '../../src/models/defaultModel.js';
import { locateModel } from '../../src/models/locate.js';
import { modelsFolder } from '../../src/models/modelsFolder.js';
import { MedusaEngine } from '../../src/index.js';

/** Opens the default model, which is prepared first when it is missing (a minute or two). */
export function openDefaultModel(): Promise<MedusaEngine> {
  const note = (message: string): void => console.error(`    ${message}`);
  return MedusaEngine.open({ report: { begin: note, note, progress: () => {} } });
}

export function defaultModelFolder(): string {
  return locateModel(defaultModelName, modelsFolder(undefined)).folder;
}
