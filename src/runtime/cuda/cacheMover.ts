import { writeInt64 } from '../../decoding/tree/treeMask.js';
import { cacheBlocks, packMove, type RowMove, type SharedPlan } from './bindingPlan.js';
import { type Buffers, floatType, Mirror } from './buffers.js';
import type { Device } from './device.js';
import { getOrMake } from './getOrMake.js';
import type { IoBinding, IoSession } from './ioSession.js';
import { ElementType } from './ortApi.js';

/** Moves accepted rows together within the cache, by the keep graph: one copy to the device, none back. */
export class CacheMover {
  /** By the number of rows. */
  private readonly bindings = new Map<number, IoBinding>();
  private readonly inputs: Mirror;
  private readonly blocks: number;

  constructor(
    device: Device,
    private readonly session: IoSession,
    private readonly plan: SharedPlan,
    private readonly buffers: Buffers,
  ) {
    this.blocks = cacheBlocks(plan.shape);
    this.inputs = new Mirror(device, packMove(plan.shape, buffers.maxRows).bytes);
  }

  move({ from, to }: RowMove): void {
    const { inputs, blocks, plan } = this;
    const at = packMove(plan.shape, from.length);
    inputs.host.int64.fill(BigInt(to), at.writeIndices / 8, at.writeIndices / 8 + blocks);
    writeInt64(inputs.host.int64.subarray(at.rows / 8), from, from.length);
    inputs.send(at.bytes);
    getOrMake(this.bindings, from.length, () => this.bind(from.length)).run(null);
  }

  private bind(count: number): IoBinding {
    const { buffers, plan, inputs, blocks } = this;
    const at = packMove(plan.shape, count);
    const binding = this.session.newBinding();
    const whole = [blocks, plan.capacity, plan.shape.headDim];
    binding.bindInput('cache', buffers.cache, floatType(plan), whole);
    binding.bindInput('rows', inputs.at(at.rows), ElementType.int64, [count]);
    binding.bindInput('write_indices', inputs.at(at.writeIndices), ElementType.int64, [blocks]);
    binding.bindOutput('cache_out', buffers.cache, floatType(plan), whole);
    return binding;
  }
}
