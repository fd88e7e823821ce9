"""ParaViewWeb's launcher API on a batch system: sessions as jobs, reached through SSH tunnels."""

__version__ = "0.1.0"
