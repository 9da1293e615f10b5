"""If-None-Match as RFC 9110 has it."""

import pytest

from aitp_cp.revocation.tags import matches


@pytest.mark.parametrize(
    "headers",
    [['"a"'], ['W/"a"'], ['"b", "a"'], ['"b",W/"a"'], ["*"], [" * "], ['"b"', '"a"'], ['"b, c", "a"']],
)
def test_a_tag_in_the_list_matches(headers: list[str]) -> None:
    assert matches(headers, '"a"')


@pytest.mark.parametrize("headers", [[], [""], ['"b"'], ["a"], ['"ab"'], ['"a'], ['"b*"'], ['"b, a, c"']])
def test_another_tag_does_not(headers: list[str]) -> None:
    assert not matches(headers, '"a"')
