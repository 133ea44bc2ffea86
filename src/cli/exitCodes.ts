export { ExitCode } from '../errors.js';
