"""A list is declared with the paging of all lists, and its plan is tested."""

from typing import Any

import msgspec
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.web.endpoint import Endpoint
from tests.plans.test_lists import LISTS


def is_page(response: Any) -> bool:
    shapes = response if isinstance(response, tuple) else (response,)
    return any(isinstance(shape, type(msgspec.Struct)) and "next_before" in shape.__struct_fields__ for shape in shapes)


PAGES = [endpoint for endpoint in ENDPOINTS if any(map(is_page, endpoint.responses.values()))]


@pytest.mark.parametrize("endpoint", PAGES, ids=lambda endpoint: endpoint.name)
def test_an_endpoint_with_a_cursor_takes_it_back(endpoint: Endpoint) -> None:
    assert endpoint.is_list
    assert endpoint.bulk, "one caller runs few lists at once"


def test_every_list_has_a_cursor_and_a_plan_test() -> None:
    lists = [endpoint for endpoint in ENDPOINTS if endpoint.is_list]
    assert [endpoint.name for endpoint in lists if endpoint not in PAGES] == []
    assert [endpoint.name for endpoint in lists if not LISTS.get(endpoint.name)] == []
