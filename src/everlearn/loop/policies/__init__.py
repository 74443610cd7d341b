"""When to update, and by which rung of the ladder: small pure functions that compose.

:mod:`situation` holds the words, :mod:`asking` one function a policy, :mod:`ladder` the cheapest action
that an asking policy should take.
"""
