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
  // The model-free core has no clock. (What it may import: dependency-cruiser.config.js.)
  {
    files: ['src/decoding/**/*.ts'],
    rules: { 'no-restricted-globals': ['error', 'performance', 'Date', 'process'] },
  },
  // One file alone writes to the terminal: it makes control characters of others visible.
  {
    files: ['src/**/*.ts'],
    ignores: ['src/cli/output.ts'],
    rules: {
      'no-console': 'error',
      'no-restricted-syntax': [
        'error',
        {
          selector: "MemberExpression[property.name='write'][object.property.name=/^std(out|err)$/]",
          message: 'Write with src/cli/output.ts.',
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'scripts/**/*.ts'],
    rules: { '@typescript-eslint/explicit-module-boundary-types': 'off' },
  },
  { files: ['*.config.js', 'packaging/*.js'], ...tseslint.configs.disableTypeChecked },
);
