/** The model-free core: what the engine, the benchmarks and the library's face use of it. */
export * from './types.js';
export { createAcceptance, type AcceptanceOptions } from './acceptance.js';
export { buildTree, CandidateTreeBuilder, rootTree, type Marginals } from './tree/candidateTree.js';
export {
  rowsInMemory,
  type ConditionalTable,
  type InputRows,
  type TableActivation,
} from './tree/conditionalTable.js';
export { CostCurve, type CostPoint } from './policy/costCurve.js';
export { decode, type DecodeResult, type LoopOptions } from './decode.js';
export { drawTree, type DrawTreeOptions } from './tree/drawTree.js';
export { argmax } from './distribution.js';
export { NotFiniteError } from './notFinite.js';
export { NestedTrees } from './tree/nestedTrees.js';
export { bestStaticTreeInHindsight, oracleTokensPerStep, rankPath } from './oracle.js';
export { prefill, type PrefillOptions } from './prefill.js';
export { createRandom, type Random } from './random.js';
export { pool, type PooledStatistics } from './statistics.js';
export { fillTreeBias, sharedLayout, splitLayout, type BiasLayout } from './tree/treeMask.js';
export {
  autoTree,
  dynamicTree,
  noTree,
  staticTree,
  type AutoTreeOptions,
  type DynamicTreeOptions,
} from './policy/treePolicy.js';
export {
  searchStaticTree,
  staticTreeFromPaths,
  staticTreePaths,
  TreeFormatError,
  type StaticTree,
} from './tree/staticTree.js';
