"""``python -m hpcbridge`` is the command ``hpcbridge``."""

from hpcbridge.cli.main import main

main()
