/**
 * ONNX Runtime 1.29 and later keeps a device id and sends usage events on Linux and macOS, unless this variable is 1 in
 * the environment of the process when the library is loaded. So this module comes before every import of it. A value
 * that the user has set stays as it is.
 */
process.env.ORT_DISABLE_TELEMETRY ??= '1';
