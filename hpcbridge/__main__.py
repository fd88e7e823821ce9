"""``python -m hpcbridge`` is the command ``hpcbridge``."""

from hpcbridge.cli import main

main()
