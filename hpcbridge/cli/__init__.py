"""The command ``hpcbridge``: one module a group of commands."""
