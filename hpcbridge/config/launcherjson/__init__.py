"""Configuration files of ParaViewWeb's launcher: read as they are, and as our own settings."""

from hpcbridge.config.launcherjson.translate import Notice, Translation, is_launcher_file, read

__all__ = ["Notice", "Translation", "is_launcher_file", "read"]
