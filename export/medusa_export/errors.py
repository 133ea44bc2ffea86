"""The one error that users see: a single line that names what is wrong and, where possible, the remedy."""


class ExportError(Exception):
    """Raised for bad input or an unusable output folder; the commands print it as `error: ...` and exit with 1."""
