"""Whether the pages that a client sends can be right."""

from __future__ import annotations

from alamo.errors import ProtocolError
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg


def check_page(page: msg.Page, data: ProgramData) -> None:
    """Whether the columns fit together and refer to what is there.

    The predecessors themselves are looked at by the scheduler, which walks them anyway.
    Cost: O(1), 0.1 us for each element with inputs or objects.

    Raises:
        ProtocolError: they do not.
    """
    size = 4 * page.count
    if len(page.lengths) != size:
        raise ProtocolError("a page whose arguments do not fit its elements")
    if not isinstance(page.functions, int) and len(page.functions) != size:
        raise ProtocolError("a page whose functions do not fit its elements")
    ends = page.pred_ends
    if len(ends) not in (0, size):
        raise ProtocolError("a page whose predecessors do not fit its elements")
    if 4 * (memoryview(ends).cast("I")[-1] if ends else 0) != len(page.preds):
        raise ProtocolError("a page whose predecessors do not fit their ends")
    first, end = data.count, data.count + page.count
    for element, sources in page.inputs:
        if not first <= element < end or not all(0 <= s < element for s in sources):
            raise ProtocolError("a page with inputs that do not come before their elements")
    for element, numbers in page.objects:
        if not first <= element < end or not data.definitions.keys() >= set(numbers):
            raise ProtocolError("a page with objects that were not defined")


def check_joins(page: msg.Page, first: int) -> None:
    """Whether elements without a function are joins: nobody could run them.

    Raises:
        ProtocolError: there are others.
    """
    nothing = b"\xff" * 4
    if isinstance(page.functions, int):
        free = page.count if page.functions == msg.NO_FUNCTION else 0
    else:
        free = page.functions.count(nothing)
    idle = {*page.joins, *(element for element, _ in page.gates)}
    if free != len(idle):
        raise ProtocolError("a page with elements that have nothing to run and no reason for it")
    if not isinstance(page.functions, int):
        at = [4 * (element - first) for element in idle]
        if any(page.functions[k : k + 4] != nothing for k in at):
            raise ProtocolError("a page with joins that have something to run")
