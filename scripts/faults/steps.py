"""Steps of faults: each is a function of the stack it is done to."""

import os
import signal
import socket
import urllib.parse


def stop(name):
    return lambda stack: stack.run("stop", name)


def restart(name):
    return lambda stack: stack.run("restart", name)


def kill(name):
    """As a crash would."""
    return lambda stack: os.kill(stack.process(name)["pid"], signal.SIGKILL)


def flush(name):
    """Empties a Redis."""

    def step(stack):
        port = urllib.parse.urlparse(stack.process(name)["url"]).port
        with socket.create_connection(("127.0.0.1", port), timeout=2) as redis:
            redis.sendall(b"FLUSHALL\r\n")
            redis.recv(64)

    return step


def distrust_policies(stack):
    """Nobody's policies decide any more."""
    keys = stack.policy_keys()
    stack.kept["trusted"] = keys.read_text()
    keys.write_text("")


def trust_policies(stack):
    stack.policy_keys().write_text(stack.kept["trusted"])


def cost(tokens):
    """Of each check that callers ask for."""

    def step(stack):
        stack.callers.cost = tokens

    return step


def environment(name, value):
    """For the processes of the stack; a step of `prepares`, or before a restart."""

    def step(stack):
        stack.environment[name] = value

    return step


def blind(stack):
    stack.recorder.blind = True


def look_again(stack):
    stack.recorder.blind = False
