"""Talk to everlearn from Python: ``Client`` waits, ``AsyncClient`` awaits, the verbs are the same.

>>> from everlearn import Client
>>> with Client("http://127.0.0.1:8000", key="...") as client:  # doctest: +SKIP
...     served = client.predict("spam", [{"length": 12}])
...     client.label("spam", {served[0].id: "ham"})

Every verb is written once, in :mod:`everlearn.client.verbs`, as a request and the parser of its
answer; :mod:`everlearn.client.runners` sends it, with or without waiting. The client knows only
HTTP: of everlearn it imports the errors.
"""

from everlearn.client.answers import ChampionAnswer, CommandAnswer, LabelReceipt, Prediction, Predictions
from everlearn.client.clients import AsyncClient, Client
from everlearn.client.retries import Retries, Retry

__all__ = [
    "AsyncClient",
    "ChampionAnswer",
    "Client",
    "CommandAnswer",
    "LabelReceipt",
    "Prediction",
    "Predictions",
    "Retries",
    "Retry",
]
