"""The suite for PBS, against the fake server or a real one.

``make test-pbs`` tries a real one: ``HPCBRIDGE_TEST_PBS=local``, or ``ssh://user@host[:port]``.
:mod:`tests.pbs.site` tells the other variables.
"""
