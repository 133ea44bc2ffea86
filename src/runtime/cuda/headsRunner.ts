import type { HeadProposals } from '../../decoding/types.js';
import { toInt32 } from '../int64.js';
import type { HeadsFile } from '../spec.js';
import { type Packed, packHeadInputs, packProposals, type SharedPlan } from './bindingPlan.js';
import { type Buffers, floatType, HostArray, Mirror } from './buffers.js';
import type { Device } from './device.js';
import { getOrMake } from './getOrMake.js';
import { GraphOptions, type IoBinding, type IoSession } from './ioSession.js';
import { ElementType, type OrtApi } from './ortApi.js';

/** Runs the heads on a row of the hidden states, which are on the device already: one copy there, one back. */
export class HeadsRunner {
  private readonly bindings = new Map<number, IoBinding>();
  private readonly layout: Packed<'row' | 'token'>;
  private readonly inputs: Mirror;
  private readonly results: Mirror;
  private readonly graphs: GraphOptions;

  constructor(
    api: OrtApi,
    private readonly device: Device,
    private readonly session: IoSession,
    private readonly plan: SharedPlan,
    private readonly buffers: Buffers,
    private readonly heads: HeadsFile,
    graphs: boolean,
  ) {
    const { count, maxTopM, contextSize } = heads;
    this.layout = packHeadInputs(heads.readsToken ?? false);
    this.inputs = new Mirror(device, this.layout.bytes);
    this.results = new Mirror(device, packProposals(count, maxTopM, contextSize).bytes);
    this.graphs = new GraphOptions(api, graphs);
  }

  /** @param row of the hidden states of the last run */
  run(row: number, root: number, topM: number): HeadProposals {
    const { count, contextSize, readsToken } = this.heads;
    const { layout, inputs, results } = this;
    inputs.host.int64[layout.row / 8] = BigInt(row);
    if (readsToken) inputs.host.int64[layout.token / 8] = BigInt(root);
    inputs.send(layout.bytes);
    const binding = getOrMake(this.bindings, topM, () => this.bind(topM));
    binding.run(this.graphs.for(topM));
    const at = packProposals(count, topM, contextSize);
    results.fetch(at.bytes);
    const candidates = count * topM;
    return {
      heads: count,
      topM,
      ids: toInt32(results.host.int64, candidates),
      probabilities: results.host.float32.slice(at.probabilities / 4, at.probabilities / 4 + candidates),
      ...(contextSize !== undefined && {
        hiddenTerms: results.host.float32.slice(at.hiddenTerms / 4, at.hiddenTerms / 4 + count * contextSize),
      }),
    };
  }

  release(): void {
    this.graphs.release();
  }

  private bind(topM: number): IoBinding {
    const { buffers, plan, inputs, results, layout } = this;
    const { count, contextSize, readsToken } = this.heads;
    const binding = this.session.newBinding();
    // All rows there may ever be: the graph reads one, and the shape stays.
    const hidden = [buffers.maxRows, plan.shape.hiddenSize];
    binding.bindInput('hidden', buffers.hidden, floatType(plan), hidden);
    binding.bindInput('row', inputs.at(layout.row), ElementType.int64, [1]);
    if (readsToken) binding.bindInput('token', inputs.at(layout.token), ElementType.int64, [1]);
    // TopK reads its k on the host.
    const wanted = new HostArray(this.device, 8);
    wanted.int64[0] = BigInt(topM);
    binding.bindInput('top_m', wanted, ElementType.int64, [1]);
    const at = packProposals(count, topM, contextSize);
    binding.bindOutput('top_ids', results.at(at.ids), ElementType.int64, [count, topM]);
    binding.bindOutput('top_probs', results.at(at.probabilities), ElementType.float32, [count, topM]);
    if (contextSize !== undefined) {
      binding.bindOutput('context', results.at(at.hiddenTerms), ElementType.float32, [count, contextSize]);
    }
    return binding;
  }
}
