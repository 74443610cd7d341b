"""Writes the model as MLflow stores it, for ``mlflow models serve``."""

from __future__ import annotations

import shutil

import mlflow.sklearn

from serving_numbers import model

if __name__ == "__main__":
    shutil.rmtree("model", ignore_errors=True)
    mlflow.sklearn.save_model(model, "model", serialization_format="cloudpickle", pip_requirements=[])
