"""Networks that learn without forgetting: one algorithm a file, over any module of PyTorch (extra ``torch``).

:mod:`~everlearn.learners.networks.network` holds what they share: rows in, blocks of them to an explicit
training step, one state of plain arrays out. Nothing here is imported before such a learner is built.
"""

from everlearn.errors import MissingExtraError

try:
    import torch  # noqa: F401
except ImportError:
    raise MissingExtraError("A network", "torch") from None
