"""What is lost when things break: figures of crashes, outages and many sessions.

Run it with ``python -m benchmarks --resilience``; it needs root for the test cluster.
"""
