import { getOrMake } from './getOrMake.js';
import type { OrtApi, Pointer } from './ortApi.js';

/** Run option: which captured graph a run replays (captured at its first run). */
const GRAPH_ID = 'gpu_graph_id';
/** Runs without a graph. */
const NO_GRAPH = '-1';

/** OrtRunOptions that name the CUDA graph of each shape of a session's runs. */
export class GraphOptions {
  private readonly made = new Map<unknown, Pointer>();

  constructor(
    private readonly api: OrtApi,
    /** Whether the session captures graphs at all. */
    private readonly enabled: boolean,
  ) {}

  /**
   * The options of the runs of one shape, the same ones for the same key; null where graphs are not in use.
   *
   * @param captured false for shapes that come seldom: they run as they are
   */
  for(key: unknown, captured = true): Pointer | null {
    if (!this.enabled) return null;
    return getOrMake(this.made, key, () => {
      const options = this.api.create('CreateRunOptions');
      // Ids begin at 1: 0 is ONNX Runtime's own.
      const graph = captured ? String(this.made.size + 1) : NO_GRAPH;
      this.api.call('AddRunConfigEntry', options, GRAPH_ID, graph);
      return options;
    });
  }

  release(): void {
    for (const options of this.made.values()) this.api.release('ReleaseRunOptions', options);
    this.made.clear();
  }
}
