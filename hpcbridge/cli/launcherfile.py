"""The command ``hpcbridge import``."""

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The launcher's file, such as launcher.json.")
]


def import_launcher(file: File) -> None:
    """Print the TOML that means the same as a configuration file of ParaViewWeb's launcher.

    Comments in it say what works differently. 'hpcbridge serve FILE' runs such a file as it is.
    """
    from hpcbridge.config import file as configfile
    from hpcbridge.config.launcherjson.text import toml
    from hpcbridge.config.launcherjson.translate import read

    translation = read(file)
    configfile.checked(file, translation.data)
    print(toml(translation), end="")
