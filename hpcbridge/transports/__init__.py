"""Where commands run: :mod:`~hpcbridge.transports.local` or :mod:`~hpcbridge.transports.ssh`."""
