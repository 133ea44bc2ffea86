#!/usr/bin/env node
import { listenForInterrupts } from '../src/cli/interrupt.js';
import { watchStreams } from '../src/cli/streams.js';

listenForInterrupts();
watchStreams();
// Loaded only now: Ctrl-C has its exit code from the first moment on.
const { main } = await import('../src/cli/main.js');
await main(process.argv.slice(2));
