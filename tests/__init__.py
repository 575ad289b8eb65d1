"""The tests. What fails in one of their helpers is told as fully as in a test."""

import pytest

pytest.register_assert_rewrite("tests.api_support", "tests.chaos", "tests.e2e", "tests.support")
