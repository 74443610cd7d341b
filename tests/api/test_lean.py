"""An API process holds no library that none of its models needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import asyncio, json, sys, time
import httpx
from everlearn.api.serve import server
from everlearn.wiring import Installation

installation = Installation.load()
installation.prepare()
installation.migrate()
started = time.monotonic()
app = server(installation).config.app

async def main():
    key = {"Authorization": f"Bearer {installation.api_key}"}
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
    async with app.router.lifespan_context(app), client as http:
        while (await http.get("/v1/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)
        ready = time.monotonic() - started
        await asyncio.sleep(0.3)  # what is done in the background is done
        told = (await http.get("/v1/models", headers=key)).status_code
        return ready, told

ready, told = asyncio.run(main())
heavy = ["lightgbm", "mlflow", "numba", "pandas", "pyarrow", "river", "scipy", "sklearn", "skops", "torch"]
print(json.dumps({"ready": ready, "told": told, "heavy": [name for name in heavy if name in sys.modules]}))
"""


def test_without_models_no_heavy_library_is_imported(tmp_path: Path) -> None:
    environment = {**os.environ, "EVERLEARN_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["heavy"] == []
    assert told["told"] == 200
