import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'onnx/',
      'results/',
      'export/',
      'node_modules/',
      'test/fixtures/',
      '**/*.as.ts',
      '**/*.cjs',
    ],
  },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-expressions': 'off',
    },
  },
  // The model-free core imports no runtime, no file system and no clock.
  {
    files: ['src/decoding/**/*.ts'],
    rules: {
      'no-restricted-imports': ['error', { patterns: ['node:*', '../*', 'onnxruntime-node', 'koffi'] }],
      'no-restricted-globals': ['error', 'performance', 'Date', 'process'],
    },
  },
  // One folder alone knows ONNX Runtime.
  {
    files: ['src/**/*.ts'],
    ignores: ['src/runtime/**/*.ts', 'src/decoding/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: ['onnxruntime-node', 'koffi'] }] },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: { '@typescript-eslint/explicit-module-boundary-types': 'off' },
  },
  { files: ['*.config.js', 'packaging/*.js'], ...tseslint.configs.disableTypeChecked },
);
