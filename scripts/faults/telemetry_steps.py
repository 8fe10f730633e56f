"""Who takes spans and log lines, and stops doing so."""

import os
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

POLL_S = 0.2


class Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.answers.wait()
        try:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()
        except OSError:
            # Nobody has waited for the answer.
            self.close_connection = True

    def log_message(self, *_):
        pass


def collect_all_spans(stack):
    """By a collector of the stack's own; a step of `prepares`."""
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    collector.answers = threading.Event()
    collector.answers.set()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    stack.undo.callback(collector.server_close)
    stack.undo.callback(collector.shutdown)
    for program in ("CELL", "ROUTER"):
        stack.environment[f"CELLAR_{program}__OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
        stack.environment[f"CELLAR_{program}__TRACE_RATIO"] = "1.0"
    stack.kept["collector"] = collector


def stall_collector(stack):
    """It reads what it is sent and answers nothing."""
    stack.kept["collector"].answers.clear()


def let_collector_answer(stack):
    stack.kept["collector"].answers.set()


class Reader:
    """Reads a pipe until it is told to stop."""

    def __init__(self, path):
        # Without waiting for somebody who writes.
        self.pipe, self.over = os.open(path, os.O_RDONLY | os.O_NONBLOCK), threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.over.wait(POLL_S):
            while select.select([self.pipe], [], [], 0)[0] and os.read(self.pipe, 1 << 16):
                pass
        os.close(self.pipe)

    def stop(self):
        self.over.set()
        self.thread.join()


def log_to_pipe(name, level):
    """A process's log is a pipe from now on, and has so many lines; a step of `readies`."""

    def step(stack):
        path = Path(stack.process(name)["log"])
        stack.run("stop", name)
        path.unlink()
        os.mkfifo(path)
        stack.kept["log"] = path
        read_log(stack)
        stack.run("restart", name)
        stack.run("log-level", name, level)

    return step


def read_log(stack):
    reader = stack.kept["reader"] = Reader(stack.kept["log"])
    stack.undo.callback(reader.stop)


def leave_log(stack):
    """Nobody reads it any more."""
    stack.kept["reader"].stop()
