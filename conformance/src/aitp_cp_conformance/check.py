"""A check: one sentence of the contract and the function that tests it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aitp_cp_conformance.deployment import Deployment

Body = Callable[[Deployment], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """A sentence of the contract, and the function that tests it.

    An extension is marked [+] in the contract: other control planes may lack it.
    """

    section: str
    sentence: str
    body: Body
    extension: bool

    @property
    def name(self) -> str:
        return f"{self.body.__module__.rpartition('.')[2]}.{self.body.__name__}"


def check(section: str, sentence: str, *, extension: bool = False) -> Callable[[Body], Check]:
    """Decorate a function that tests this sentence on a deployment."""
    return lambda body: Check(section, sentence, body, extension)
