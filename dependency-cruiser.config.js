/** Which folder may import which: `npm run lint` holds it. Imports of types count too, unless a rule says otherwise. */

const rule = (name, from, to) => ({ name, severity: 'error', from, to });

export default {
  forbidden: [
    rule('no cycles', {}, { circular: true }),
    rule('the model-free core stands alone', { path: '^src/decoding/' }, { pathNot: '^src/decoding/' }),
    rule('util knows no other folder', { path: '^src/util/' }, { path: '^src/', pathNot: '^src/util/' }),
    rule(
      'one module imports onnxruntime-node, with its telemetry off',
      { path: '^src/', pathNot: '^src/runtime/cpu/ort\\.ts$' },
      { path: 'node_modules/onnxruntime-node/' },
    ),
    rule(
      'one folder knows native libraries',
      { path: '^src/', pathNot: '^src/runtime/' },
      { path: 'node_modules/koffi/' },
    ),
    rule(
      'what generates knows neither the bench nor the command line',
      { path: '^src/(engine|models|runtime|prepare)/' },
      { path: '^src/(bench|cli)/' },
    ),
    // The default model is prepared when it is missing: then, and not before, preparation is loaded.
    rule(
      'what generates does not load preparation',
      { path: '^src/(index\\.ts$|engine/|models/|runtime/)' },
      { path: '^src/prepare/', dynamic: false, dependencyTypesNot: ['type-only'] },
    ),
    rule('the bench does not know the command line', { path: '^src/bench/' }, { path: '^src/cli/' }),
    rule('what ships knows no tests and scripts', { path: '^(src|bin)/' }, { path: '^(test|scripts)/' }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
