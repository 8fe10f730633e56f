"""What some faults need of a machine, looked for before the first one starts: what is not there."""

import functools
import os
import resource
import shutil
import subprocess
from pathlib import Path

WASM_TARGET = Path(__file__).resolve().parent.parent / "wasm-target"
# Twice what a crowd opens: to have hardly any left is another fault.
OPEN_FILES = 17_000


def programs(*names):
    return [name for name in names if shutil.which(name) is None]


def psql():
    return programs("psql")


def disks():
    """Files with a file system, mounted by loop devices."""
    missing = [] if os.geteuid() == 0 else ["to be run by root"]
    missing += programs("mkfs.ext4", "mount", "umount")
    return missing if Path("/dev/loop-control").exists() else [*missing, "loop devices"]


@functools.cache
def toolchain():
    """It is made ready as `policy build` would, which has no time for it in the middle of a fault."""
    missing = programs("bash", "cargo", "rustc")
    if missing:
        return missing
    made = subprocess.run([WASM_TARGET], capture_output=True, text=True)
    return [] if made.returncode == 0 else [f"a toolchain that builds policies ({made.stderr.strip()})"]


def open_files():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [] if most >= OPEN_FILES else [f"{OPEN_FILES} open files (`ulimit -Hn` says {most})"]
