"""A collector of OpenTelemetry that keeps what it is sent, until it has seen the words that it waits for; then it ends.

Usage: collector.py PORT_FILE WORD...
"""

import http.server
import pathlib
import sys

missing = {word.encode() for word in sys.argv[2:]}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans in the binary form of the protocol: names and words stand in it as they are."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
            missing.difference_update({word for word in missing if word in body})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
server.timeout = 60
server.handle_timeout = lambda: sys.exit(f"never seen: {missing}")
pathlib.Path(sys.argv[1]).write_text(str(server.server_port))
while missing:
    server.handle_request()
print("a collector of traces: good")
