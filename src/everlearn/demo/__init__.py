"""The demo that ``everlearn up --demo`` plays: a real stream, a planted change, and the loop at work.

Everything goes through the HTTP API with :class:`~everlearn.Client` alone, so it shows what any
application would see. :func:`run_demo` plays it; :mod:`everlearn.demo.stream` says what is planted.
"""

from everlearn.demo.play import DemoReport, run_demo

__all__ = ["DemoReport", "run_demo"]
