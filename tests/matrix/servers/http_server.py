"""python http.server: argv is the port and the class, HTTPServer or ThreadingHTTPServer."""

import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"pid=%d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


port, kind = sys.argv[1:]
getattr(http.server, kind)(("127.0.0.1", int(port)), Handler).serve_forever()
