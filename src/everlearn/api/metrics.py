"""The page that Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from everlearn.api.parts import TheDoor

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": 'everlearn_predictions_total{role="champion"} 1024.0\n'}}}
    },
)
def metrics(door: TheDoor) -> Response:
    """Counters and gauges in Prometheus' text format."""
    return Response(door.instruments.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})
