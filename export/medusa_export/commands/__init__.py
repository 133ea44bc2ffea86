"""One module a command: `add_arguments(parser)`, `run(args)` and, where options depend on each other, `check`.

They import what needs torch or ONNX Runtime only in `run`, so that `--help` is quick. `check(args, error)` calls
`error` with a message where options do not go together.
"""
