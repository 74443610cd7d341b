"""LitServe behind the same model. ``python serving_litserve.py``."""

from __future__ import annotations

import os

import litserve

from serving_numbers import predict


class Api(litserve.LitAPI):
    """Decode, answer, encode."""

    def setup(self, device: str) -> None:
        """The model is read with the module."""

    def decode_request(self, request: dict[str, list[float]]) -> list[float]:
        """The eight features."""
        return request["input"]

    def predict(self, x: list[float]) -> dict[str, object]:
        """The class and the probabilities."""
        return predict(x)

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        """As it is."""
        return output


if __name__ == "__main__":
    workers = int(os.environ["WORKERS"])
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=workers)
    server.run(
        port=int(os.environ["PORT"]), num_api_servers=workers, log_level="warning", generate_client_file=False
    )
