// Makes dist/commonjs after tsc: what `require('medusa-plus')` gets. The code is the ES module (Node.js can require
// those); the declarations are copies in a folder of type commonjs, for TypeScript below `module: nodenext` refuses a
// CommonJS file that imports declarations of an ES module.
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const dist = join(import.meta.dirname, '..', 'dist');
const target = join(dist, 'commonjs');

rmSync(target, { recursive: true, force: true });
mkdirSync(target);
cpSync(join(dist, 'src'), target, {
  recursive: true,
  filter: (path) => !/\.(js|map)$/.test(path),
});
writeFileSync(join(target, 'package.json'), '{ "type": "commonjs" }\n');
writeFileSync(join(target, 'index.js'), "module.exports = require('../src/index.js');\n");
