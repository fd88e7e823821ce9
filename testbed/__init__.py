"""A real Slurm cluster on one machine, for trying and testing hpcbridge.

A head and four compute nodes are network namespaces with their own host name, address, sshd and
loopback device; the file system and the process table are those of this machine. From outside,
the head is reached by SSH and (its REST interface) by HTTP, and the nodes only through the head,
as on most sites.

`python3 -m testbed up` brings it up, `down` takes it down without a trace; both may be repeated.
Tests use `testbed.cluster.load()`. It needs root, and nothing but the standard library.
"""
