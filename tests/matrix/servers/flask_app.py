# mypy: ignore-errors
import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def answer():
    return f"pid={os.getpid()}\n"
