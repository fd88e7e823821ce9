"""How long users wait: figures against the reference launcher and against bare ssh.

Run it with ``make bench`` or ``python -m benchmarks``; ``docs/benchmarks.md`` has the figures and
what they mean.
"""
