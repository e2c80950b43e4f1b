"""An HTTP server from the standard library alone: `pmx start hello.py -i max -- 8000`.

It knows nothing of the other instances: pmx has them share the port.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INSTANCE = os.environ.get("NODE_APP_INSTANCE", "0")


class Hello(BaseHTTPRequestHandler):
    timeout = 5  # seconds: a client that connects and says nothing must not hold up the end

    def do_GET(self) -> None:
        body = f"hello from instance {INSTANCE} (pid {os.getpid()})\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        print(self.address_string(), format % args, flush=True)  # on stdout: a request is not an error


class Server(ThreadingHTTPServer):
    daemon_threads = False  # with block_on_close, which is the default: finish the requests in hand


def main() -> None:
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "8000"))
    server = Server(("127.0.0.1", port), Hello)

    def stop(signum: int, frame: object) -> None:
        # shutdown() waits for the end of serve_forever(), which this signal interrupted: hence the thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with server:
        print(f"listening on http://127.0.0.1:{port}", flush=True)
        server.serve_forever(poll_interval=0.1)
    print("bye", flush=True)


if __name__ == "__main__":
    main()
