# mypy: ignore-errors
"""tornado, with a listener for each family."""

import asyncio
import os
import sys

import tornado.web


class Handler(tornado.web.RequestHandler):
    def get(self):
        self.write(f"pid={os.getpid()}\n")


async def main():
    app = tornado.web.Application([("/", Handler)])
    for address in ("127.0.0.1", "::1"):
        app.listen(int(sys.argv[1]), address)
    await asyncio.Event().wait()


asyncio.run(main())
