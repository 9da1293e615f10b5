"""What a check is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aitp_cp_conformance.deployment import Deployment

Body = Callable[[Deployment], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence of one section, and the function that looks whether it is kept.

    An extension is what the contract marks [+]: other control planes need not have it.
    """

    section: str
    sentence: str
    body: Body
    extension: bool

    @property
    def name(self) -> str:
        return f"{self.body.__module__.rpartition('.')[2]}.{self.body.__name__}"


def check(section: str, sentence: str, *, extension: bool = False) -> Callable[[Body], Check]:
    """Turn a function of a deployment into the check of a sentence."""
    return lambda body: Check(section, sentence, body, extension)
