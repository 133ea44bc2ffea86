export { ExitCode } from '../util/errors.js';
