"""Steps that give a stack more to do than it can, or let it do it slowly."""

import http.client
import json
import os
import resource
import signal
import socket
import threading
import time

from .needs import OPEN_FILES

BATCH_CHECKS = 1_000
# One connection may have a request in flight; a listener takes 10,000.
CROWD = 8_400
# A body may come ten seconds after its head.
CROWD_S = 8


def flood(batches):
    """So many batches at once, all of one user's checks."""

    def step(stack):
        callers = stack.callers
        check = {"user_id": callers.users[0], "cost": {"requests": 0, "tokens": 1}}
        body = {"checks": [check] * BATCH_CHECKS}

        def ask():
            try:
                callers.ask("POST", "/v1/internal/quota/batch", body)
            except (OSError, http.client.HTTPException):
                pass

        asking = [threading.Thread(target=ask) for _ in range(batches)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()

    return step


def stutter(name, still_s):
    """It stands still for so long, and keeps its connections."""

    def step(stack):
        if name not in stack.kept:
            stack.kept[name] = stack.process(name)["pid"]
        os.kill(stack.kept[name], signal.SIGSTOP)
        try:
            time.sleep(still_s)
        finally:
            os.kill(stack.kept[name], signal.SIGCONT)

    return step


def many_open_files(stack):
    """For who calls and, since they inherit it, for who is called; a step of `prepares`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], OPEN_FILES), before[1]))
    stack.undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)


class Crowd:
    """Callers whose lines are slow: the end of each request comes seconds after its head."""

    def __init__(self, callers):
        self.callers, self.over, self.met = callers, threading.Event(), None
        body = json.dumps({"user_id": callers.users[0], "cost": {"requests": 0, "tokens": 1}}).encode()
        head = (f"POST /v1/internal/quota/consume HTTP/1.1\r\nhost: cellar\r\nauthorization: Bearer {callers.key}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode()
        self.begin, self.end = head + body[:1], body[1:]
        self.thread = threading.Thread(target=self.stay, daemon=True)
        self.thread.start()

    def stay(self):
        crowd = []
        try:
            self.call(crowd)
        except Exception as error:
            self.met = error
        finally:
            for caller in crowd:
                caller.close()

    def go(self):
        self.over.set()
        self.thread.join()
        # A crowd that was not there is no fault that was recorded.
        if self.met is not None:
            raise self.met

    def connect(self):
        caller = socket.create_connection(self.callers.at, timeout=5)
        caller.sendall(self.begin)
        caller.setblocking(False)
        return caller

    def call(self, crowd):
        """All come, then one after the other ends its request and begins the next."""
        while len(crowd) < CROWD and not self.over.is_set():
            crowd.append(self.connect())
        while not self.over.is_set():
            began = time.monotonic()
            for n, caller in enumerate(crowd):
                if self.over.is_set():
                    break
                try:
                    caller.send(self.end + self.begin)
                    caller.recv(65536)
                except BlockingIOError:
                    pass
                except OSError:
                    caller.close()
                    crowd[n] = self.connect()
                time.sleep(max(0, began + n * CROWD_S / CROWD - time.monotonic()))


def crowd(stack):
    stack.kept["crowd"] = Crowd(stack.callers)


def crowd_goes(stack):
    stack.kept["crowd"].go()
