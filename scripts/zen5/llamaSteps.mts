/** llama.mts DIR THREADS ROUNDS PAST FILE...: ms to evaluate n rows, the best token of each asked for, behind PAST tokens */
import { pathToFileURL } from 'node:url';
const [dir, threadList, rounds, past, rowsList, ...files] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(`${dir}/node_modules/node-llama-cpp/dist/index.js`).href);
const median = (v: number[]) => [...v].sort((a, b) => a - b)[v.length >> 1];
const rows = rowsList.split(',').map(Number);
for (const threads of threadList.split(',').map(Number)) {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' });
  console.log(`${threads} threads; ${llama.llamaCppRelease.release} ${llama.systemInfo}`);
  const sets: any[] = [];
  for (const file of files) {
    const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
    const context = await model.createContext({ contextSize: 512, batchSize: 256, threads, flashAttention: true });
    const sequence = context.getSequence();
    const ids = Array.from({ length: Number(past) }, (_, i) => 100 + ((i * 7919) % 40000));
    const t = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    console.log(file.split('/').pop(), `prefill ${(performance.now() - t).toFixed(0)} ms, ${threads} threads set: ${context.currentThreads}, RSS ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB`);
    sets.push({ file, model, sequence, times: rows.map(() => [] as number[]) });
  }
  for (let r = -1; r < Number(rounds); r++)
    for (const { sequence, times } of sets)
      for (const [i, n] of rows.entries()) {
        const ask = Array.from({ length: n }, (_, k) => [200 + k * 31 + r + 5, { generateNext: { token: true, options: { temperature: 0 } } }]);
        const begin = performance.now();
        await sequence.controlledEvaluate(ask);
        if (r >= 0) times[i].push(performance.now() - begin);
        await sequence.eraseContextTokenRanges([{ start: Number(past), end: Number(past) + n }]);
      }
  for (const { file, times } of sets) console.log(`${file.split('/').pop()}, ${threads} threads: ${rows.map((n, i) => `${n}: ${median(times[i]).toFixed(1)} (${Math.min(...times[i]).toFixed(1)})`).join('  ')}`);
  for (const { model } of sets) await model.dispose();
  await llama.dispose();
}
process.exit(0);
