"""The Python that programs of the tests name in their first line."""

import sys
from pathlib import Path

PYTHON = str(Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info))
"""The interpreter that the virtual environment was made from, without any packages.

A first line ends at a space and on older systems after 127 bytes (execve(2)), and the virtual
environment lies where the checkout does.
"""
