"""What runs on the machines themselves: the queue's files, and a supervisor for each job.

Its text is sent with each command, so nothing has to be installed. Python 3.6 and its library are
enough. A request is JSON on standard input, the answer JSON on standard output.

All that must last lies in one directory that all machines share, a file a fact:

    token                     by which a machine shows that it sees this directory and no other
    queue/ID.json             a job that waits
    taken/HOST/ID.json        the same, taken by a machine: rename(2) gives it to one only
    taken/HOST/ID.begun       its supervisor is there: pid, start (proc(5)) and boot
    taken/HOST/ID.cancel      it is to end
    taken/HOST/ID.end         how it ended
    taken/.none/ID.json       cancelled while it waited
    lock.HOST                 flock(2): one command at a time looks after a machine's jobs

Whoever is killed between two of these steps leaves a state from which the next command goes on.
"""
