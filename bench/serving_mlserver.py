"""Writes what MLServer needs to serve the model with its scikit-learn runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path

import joblib

from serving_numbers import model

if __name__ == "__main__":
    joblib.dump(model, "model.joblib")
    port = int(os.environ["PORT"])
    workers = int(os.environ["WORKERS"])
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": workers if workers > 1 else 0,
        "debug": False,
    }
    parameters = {"uri": "./model.joblib"}
    described = {
        "name": "scores",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": parameters,
    }
    Path("settings.json").write_text(json.dumps(settings))
    Path("model-settings.json").write_text(json.dumps(described))
