"""Has the summary stand first in the list of a flow run's artifacts.

Prefect's newer pages list artifacts by id, the highest first, and by nothing else; the server draws ids by
chance and takes none from us. So the summary is made again until its id is among the highest eighth of all
ids, and anything else until its id is not. To bring ten phases into their order in this way would take more
than a hundred draws; what a list shows of them has their number instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

_HIGHEST = 0xE0
_LIMIT_S = 4.0


def draw(make: Callable[[], UUID], drop: Callable[[UUID], None], *, first: bool) -> UUID:
    """Have an artifact made, to stand *first* or after that one; its id.

    Args:
        make: Makes the artifact with an id that the server draws.
        drop: Removes one that was made before.
        first: Makes it eight times on average; once is enough for nearly all others.

    Takes what it has after four seconds: the order is a courtesy, and no run waits long for it. What stands
    wrong then is drawn anew when it is next published.
    """
    deadline = time.monotonic() + _LIMIT_S
    made = make()
    while is_first(made) != first and time.monotonic() < deadline:
        # In this order: there is never a moment without it.
        last, made = made, make()
        drop(last)
    return made


def is_first(artifact: UUID) -> bool:
    """True for the ids that are kept for what stands first."""
    return artifact.bytes[0] >= _HIGHEST
