import type { StoppingCriteria } from '../../decoding/types.js';
import { TextStream, type StreamDecoder } from './textStream.js';

/**
 * Ends a generation with the token that completes a stop string. Only the text tells (a stop string may begin inside one
 * token and end inside another), so it is made here once more, by the rules of the `TextStream` that the caller reads.
 */
export class StopStrings implements StoppingCriteria {
  private readonly text: TextStream;

  constructor(decoder: StreamDecoder, stopStrings: readonly string[]) {
    this.text = new TextStream(decoder, stopStrings);
  }

  push(token: number): 'stop' | undefined {
    this.text.push([token]);
    return this.text.isStopped ? 'stop' : undefined;
  }
}
