/** The one place that imports onnxruntime-node, after its telemetry has been switched off. */
import '../telemetry.js';
import { env } from 'onnxruntime-node';

// Warnings about devices that this program does not use would end up on the user's screen.
env.logLevel = 'error';

export { InferenceSession, Tensor } from 'onnxruntime-node';
