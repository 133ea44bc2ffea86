// npm runs this before the install scripts of all packages (our `preinstall`).
//
// On Linux onnxruntime-node's own script downloads CUDA libraries from NuGet, and where NuGet cannot be reached it fails,
// and with it the whole `npm install`, although the CPU library lies in the package. Nothing that a package can declare
// changes a dependency's script, so we put a file beside it: npm calls `node ./script/install`, and Node.js takes
// `install` before `install.js`. It runs the original, and a failed download is a message instead of an error. Whoever
// asks for the download (ONNXRUNTIME_NODE_INSTALL) gets the original.
const { existsSync, writeFileSync } = require('node:fs');
const { dirname, join } = require('node:path');

const shim = `// Written by medusa-plus, packaging/optionalGpuLibraries.cjs, which says why.
process.on('uncaughtException', (error) => {
  console.warn('onnxruntime-node: the CUDA libraries were not downloaded (' + error.message + '); the CPU needs none.');
  process.exit(0);
});
require('./install.js');
`;

const isAskedFor = ['', '_CUDA'].some(
  (suffix) =>
    process.env[`ONNXRUNTIME_NODE_INSTALL${suffix}`] ||
    process.env[`npm_config_onnxruntime_node_install${suffix.toLowerCase()}`],
);
try {
  const scripts = join(dirname(require.resolve('onnxruntime-node/package.json')), 'script');
  if (!isAskedFor && existsSync(join(scripts, 'install.js'))) writeFileSync(join(scripts, 'install'), shim);
} catch {
  // Not npm's order, or a store that cannot be written to: then the original runs.
}
