"""Steps that change what the catalog has: policies, tiers, candidates, rows that no build here has written."""

import json
import subprocess

from .stack import BUCKET


def publish(name, line):
    """A policy that no tier uses yet; see `Stack.put_policy`."""

    def step(stack):
        stack.kept[name] = stack.put_policy(name, line)

    return step


def candidate(lines, name):
    """All users of the callers' tier are decided by the tier's policy and by this one."""

    def step(stack):
        slots = (BUCKET + stack.kept[name]).replace("[[policy]]", "[[rollout.policy]]")
        stack.put_tier(lines, f"[rollout]\npercent = 100\n{slots}")

    return step


def tier(name, slots):
    """One with so many slots."""
    more = [BUCKET.replace("monthly", f"monthly-{number}", 1) for number in range(1, slots)]
    return lambda stack: stack.put_tier("", "".join(more), name)


def rollback(name):
    """To the revision before."""
    return lambda stack: stack.run("tier", "rollback", name, "--yes")


def write_as_another_build(name):
    """A tier's row, of which this build understands nothing."""

    def step(stack):
        state = json.loads(stack.state.read_text())
        document = "update catalog set document = '{\"of\": \"another build\"}'"
        command = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", state["directory_url"],
                   "-c", f"{document} where kind = 'tier' and name = '{name}'"]
        subprocess.run(command, check=True)

    return step
