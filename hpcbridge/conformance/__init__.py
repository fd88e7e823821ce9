"""The suite that every adapter passes, for hpcbridge's own and for those of other packages.

A test module puts an adapter on the bench: a :class:`Bench` that brings its batch system up, and
a subclass of :class:`Conformance` with a fixture ``bench``. It needs pytest and pytest-asyncio;
``docs/adapters.md`` walks through an example. For readable failures, write into ``conftest.py``::

    pytest.register_assert_rewrite("hpcbridge.conformance")
"""

from hpcbridge.conformance.bench import Ability, Bench, CountingTransport, Job
from hpcbridge.conformance.suite import Conformance

__all__ = ["Ability", "Bench", "Conformance", "CountingTransport", "Job"]
