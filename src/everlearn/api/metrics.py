"""The page that Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from everlearn.api.parts import TheDoor

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": 'everlearn_predictions_total{role="champion"} 1024.0\n'}}}
    },
)
def metrics(door: TheDoor, request: Request) -> Response:
    """Counters and gauges in Prometheus' text format; where requests are traced, in OpenMetrics on demand."""
    page, kind = door.instruments.page_for(request.headers.get("accept", ""))
    return Response(page, headers={"Content-Type": kind})
