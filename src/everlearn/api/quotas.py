"""How many labels a caller may give: counted before anything of a request is stored, told in headers."""

from __future__ import annotations

import math

from everlearn.access.limits import DAY, Quotas, Standing
from everlearn.access.words import Principal, Scope
from everlearn.errors import QuotaError


class LabelQuotas:
    """Counts labels and examples, in the memory of each process.

    ``default`` is for callers whose credential names no number (``None``: any number). Administrators are not
    counted by it.
    """

    def __init__(self, default: int | None = None) -> None:
        self._default = default
        self._quotas = Quotas()

    def counts(self, caller: Principal) -> bool:
        """Whether labels of this caller are counted."""
        return self._per_day(caller) is not None

    def _per_day(self, caller: Principal) -> int | None:
        if caller.labels_per_day is None and Scope.ADMIN not in caller.everywhere:
            return self._default
        return caller.labels_per_day

    def take(self, caller: Principal, count: int, now: float) -> dict[str, str]:
        """Count labels of a caller; the headers that tell how they stand.

        Raises QuotaError where there is no room for all of them: then none is counted.
        """
        per_day = self._per_day(caller)
        if per_day is None:
            return {}
        standing = self._quotas.take(caller.name, count, per_day, now)
        headers = _headers(per_day, standing)
        if not standing.wait:
            return headers
        if math.isinf(standing.wait):
            detail = f"{count} labels are more than the {per_day} a day that this credential may give"
            wait = math.ceil(standing.reset) or 1
            raise QuotaError(f"{detail}: send fewer at once", {**headers, "Retry-After": str(wait)})
        wait = max(1, math.ceil(standing.wait))
        detail = f"This credential may give {per_day} labels a day, and {standing.left} are left"
        raise QuotaError(
            f"{detail}: nothing was stored; try again in {wait} seconds, or send fewer",
            {**headers, "Retry-After": str(wait)},
        )


def _headers(per_day: int, standing: Standing) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"labels";q={per_day};w={int(DAY)}',
        "RateLimit": f'"labels";r={standing.left};t={math.ceil(standing.reset)}',
    }
