#!/usr/bin/env node
import { endQuietlyOnClosedPipe, main } from '../src/cli/main.js';

endQuietlyOnClosedPipe();
await main(process.argv.slice(2));
