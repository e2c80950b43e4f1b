"""One request at a time, 20 ms each: with many clients most requests wait in the queue of the listener."""

import os
import select
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        select.select([], [], [], 0.02)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"pid=%d\n" % os.getpid())

    def log_message(self, *_: object) -> None:
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
