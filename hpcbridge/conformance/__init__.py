"""The suite that every adapter passes, for hpcbridge's own and for those of other packages.

A test module puts an adapter on the bench: a :class:`Bench` that brings its batch system up, and
a subclass of :class:`Conformance` with a fixture ``bench``. It needs pytest and pytest-asyncio;
``docs/adapters.md`` walks through an example.
"""

import pytest

# Before they are imported: pytest makes their failures readable.
pytest.register_assert_rewrite(f"{__name__}.faults", f"{__name__}.suite")

from hpcbridge.conformance.bench import Ability, Bench, CountingTransport, Job  # noqa: E402
from hpcbridge.conformance.suite import Conformance  # noqa: E402

__all__ = ["Ability", "Bench", "Conformance", "CountingTransport", "Job"]
