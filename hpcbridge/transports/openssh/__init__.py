"""Tunnels by OpenSSH's ssh(1): a master process for each host, asked over its control socket."""
