import { fillTreeBias, sharedLayout, writeInt64 } from '../../decoding/tree/treeMask.js';
import type { VerifyOptions } from '../../decoding/types.js';
import { toInt32 } from '../int64.js';
import { type BackboneRunner, bindCache, type RunResults, type RunRows } from './backboneRunner.js';
import { biasColumns, type SharedPlan } from './bindingPlan.js';
import {
  biasValues,
  type Buffers,
  deviceMemory,
  floatType,
  HostArray,
  LogitsArea,
  LogitsReader,
} from './buffers.js';
import type { Device } from './device.js';
import type { IoBinding, IoSession, Place } from './ioSession.js';
import { ElementType } from './ortApi.js';

/** Steps of kind `bound`: host arrays bound anew for each run; ONNX Runtime copies each to the device, and back. */
export class BoundRunner implements BackboneRunner {
  private readonly binding: IoBinding;
  /** [maxRows] each. */
  private readonly ids: HostArray;
  private readonly positions: HostArray;
  private readonly outputRows: HostArray;
  private readonly nextTokens: HostArray;
  /** [maxRows, capacity] */
  private readonly bias: HostArray;
  /** Scalars. */
  private readonly lastKey: HostArray;
  private readonly total: HostArray;
  /** Logits somebody wants, and logits nobody wants: these stay on the device. */
  private readonly wanted: LogitsArea<HostArray>;
  private readonly unwanted: LogitsArea<Place>;
  private readonly reader: LogitsReader;
  /** What the inputs of `bindWhenNew` hold. */
  private readonly contents = new Map<string, string>();

  constructor(
    device: Device,
    backbone: IoSession,
    private readonly plan: SharedPlan,
    private readonly buffers: Buffers,
  ) {
    const { maxRows } = buffers;
    const onHost = (elements: number, bytes: number): HostArray => new HostArray(device, elements * bytes);
    this.ids = onHost(maxRows, 8);
    this.positions = onHost(maxRows, 8);
    this.outputRows = onHost(maxRows, 8);
    this.nextTokens = onHost(maxRows, 8);
    this.bias = onHost(maxRows * plan.capacity, plan.elementBytes);
    this.lastKey = onHost(1, 4);
    this.total = onHost(1, 4);
    const { vocabSize } = plan.shape;
    this.wanted = new LogitsArea(vocabSize, maxRows, (bytes) => new HostArray(device, bytes));
    this.unwanted = new LogitsArea(vocabSize, maxRows, deviceMemory(device));
    this.reader = new LogitsReader(device, vocabSize);
    this.binding = backbone.newBinding();
    bindCache(this.binding, plan, buffers);
  }

  async run(rows: RunRows, past: number, logits: VerifyOptions['logits']): Promise<RunResults> {
    const { binding, plan } = this;
    const r = rows.outputRows.length;
    this.bindInputs(rows, past);
    binding.bindOutput('next_tokens', this.nextTokens, ElementType.int64, [r]);
    binding.bindOutput('hidden', this.buffers.hidden, floatType(plan), [r, plan.shape.hiddenSize]);
    const host = logits === true ? this.wanted.for(r) : undefined;
    const place = host ?? this.unwanted.for(r);
    this.reader.forget();
    binding.bindOutput('logits', place, ElementType.float32, [r, plan.shape.vocabSize]);
    await binding.run();
    return {
      nextTokens: toInt32(this.nextTokens.int64, r),
      ...(host && { logits: host.float32.slice(0, r * plan.shape.vocabSize) }),
      ...(logits === 'by row' && { logitsOf: this.reader.of(place) }),
    };
  }

  release(): void {
    // The binding is the session's, the memory the device's.
  }

  private bindInputs(rows: RunRows, past: number): void {
    const { binding, plan } = this;
    const n = rows.ids.length;
    const columns = biasColumns(plan, past, n);
    writeInt64(this.ids.int64, rows.ids, n);
    writeInt64(this.positions.int64, rows.depths, n, past);
    const { values, closed } = biasValues(plan, this.bias.memory, 0, n * columns);
    fillTreeBias(values, rows.parents, n, sharedLayout(past, columns, closed));
    this.lastKey.int32[0] = past + n - 1;
    binding.bindInput('input_ids', this.ids, ElementType.int64, [1, n]);
    binding.bindInput('position_ids', this.positions, ElementType.int64, [1, n]);
    binding.bindInput('attention_bias', this.bias, floatType(plan), [1, 1, n, columns]);
    binding.bindInput('seqlens_k', this.lastKey, ElementType.int32, [1]);
    this.bindWhenNew('total_sequence_length', String(columns), () => {
      this.total.int32[0] = columns;
      binding.bindInput('total_sequence_length', this.total, ElementType.int32, []);
    });
    const r = rows.outputRows.length;
    this.bindWhenNew('output_rows', `${rows.outputRows[0]} ${r}`, () => {
      writeInt64(this.outputRows.int64, rows.outputRows, r);
      binding.bindInput('output_rows', this.outputRows, ElementType.int64, [r]);
    });
  }

  /** Each binding copies to the device: those that rarely change are bound again only when they did. */
  private bindWhenNew(name: string, content: string, bind: () => void): void {
    if (this.contents.get(name) === content) return;
    bind();
    this.contents.set(name, content);
  }
}
