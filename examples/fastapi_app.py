"""A FastAPI application: `pmx start fastapi_app.py`, or `pmx start "uvicorn fastapi_app:app --port 8002"`.

It needs `pip install fastapi uvicorn`. Uvicorn stops gracefully at SIGTERM and SIGINT all by itself.
"""

import os

import uvicorn
from fastapi import FastAPI

app = FastAPI(title="pmx example")


@app.get("/")
def hello() -> dict[str, str | int]:
    return {"hello": "world", "instance": os.environ.get("NODE_APP_INSTANCE", "0"), "pid": os.getpid()}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8002")))
