"""Every adapter on the bench; the suite itself is :mod:`hpcbridge.conformance`.

One module an adapter, ``test_NAME.py``; those that need a real cluster are in the directory of that
cluster's fixtures.
"""
