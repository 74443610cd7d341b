"""What decides: a deterministic fold over the log of a model.

``engine`` is the fold; ``scores``, ``maturity``, ``drift``, ``policy`` and ``gate`` are its parts;
``training`` is the work that happens outside it; ``drive``, ``replay`` and ``verify`` are its drivers.
"""
