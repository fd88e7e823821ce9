"""The tests. Helpers that assert say what they saw, as tests do: pytest rewrites both."""

import pytest

pytest.register_assert_rewrite("tests.historychecks", "tests.replies", "tests.sessions.world")
