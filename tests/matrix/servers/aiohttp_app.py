# mypy: ignore-errors
"""aiohttp, with a listener for each family."""

import os
import sys

from aiohttp import web


async def answer(_):
    return web.Response(text=f"pid={os.getpid()}\n")


app = web.Application()
app.router.add_get("/", answer)
web.run_app(app, host=["127.0.0.1", "::1"], port=int(sys.argv[1]), access_log=None)
