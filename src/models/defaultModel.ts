/** The model that is used, and prepared, when none is named. */
export const defaultModelName = 'smollm2-135m-instruct';

/** sha256 of the GGUF file that it is made from. */
export const defaultWeightsSha256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';
