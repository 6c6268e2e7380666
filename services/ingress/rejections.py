"""Why items of a batch became no jobs, kept small: it is stored in one record and read with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from forebay.batches import RejectedItem
from ingress.body import MAX_JUDGED, too_many_errors, validation_error
from ingress.problems import InvalidPart, RequestRefused, rendered

MOST_PARTS = 3
"""Named of one item; its `detail` says how many there are."""
MOST_BYTES = 1024 * 1024
"""Of all items with their parts; of those that come after, no part is named."""


@dataclass
class Rejections:
    """Takes note of what was refused, item by item.

    Only texts are kept: an exception holds on to all that was there when it was raised.

    Args:
        at: the JSON pointer to the items.
    """

    at: str
    items: list[RejectedItem] = field(default_factory=list)
    _parts: list[InvalidPart] = field(default_factory=list)
    _bytes: int = 0

    def add(self, index: int, refused: RequestRefused) -> None:
        """This item was refused."""
        problem = refused.to_problem("/v1/batches", None)
        most = MOST_PARTS if self._bytes < MOST_BYTES else 0
        text = rendered(problem.model_copy(update={"errors": problem.errors[:most]}))
        self.items.append(RejectedItem(index, text))
        self._bytes += len(text)
        if len(self._parts) <= MAX_JUDGED:
            self._parts += (
                InvalidPart(pointer=f"{self.at}/{index}{part.pointer or ''}", detail=part.detail)
                for part in refused.errors or (InvalidPart(detail=refused.detail),)
            )

    def of_the_whole(self) -> RequestRefused:
        """Nothing is accepted; each part is named by its place in the whole."""
        if len(self._parts) > MAX_JUDGED:
            return too_many_errors()
        return validation_error(self._parts)
