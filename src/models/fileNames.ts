/** In the folder of a prepared model: what it is and which files belong to it. */
export const manifestName = 'manifest.json';

// What may lie beside a heads file NAME.safetensors (docs/heads-format.md):
/** A MEDUSA-2 adapter: changes of a backbone's weights that are merged at preparation. */
export const adapterSuffix = '.adapter.safetensors';
/** The tensors of a conditional joint. */
export const conditionalSuffix = '.conditional.safetensors';
