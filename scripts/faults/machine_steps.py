"""Steps that take something of its machine from a process: disk, descriptors, clock; or let it listen to everybody."""

import os
import resource
import shutil
import subprocess
import tomllib
import urllib.parse

# A file without blocks, so that a disk of this size takes megabytes of a real one, even when it is full.
DISK_BYTES = 8 << 30
MIB = 1 << 20


def settings(stack, name):
    """What the configuration of a process says."""
    words = stack.process(name)
    folder = stack.folder / "stack/config" / (words["cell"] or name)
    return tomllib.loads((folder / f"{words['role']}.toml").read_text())


def restart_with(name, **values):
    """Started again with other settings; the next `restart` gives it back its own."""

    def step(stack):
        before = dict(stack.environment)
        prefix = f"CELLAR_{stack.process(name)['role'].upper()}__"
        stack.environment.update({prefix + key.upper(): value for key, value in values.items()})
        stack.run("restart", name)
        stack.environment = before

    return step


def own_disk(name):
    """Started again with its folder on a disk of its own. Who mounts one has to be root."""

    def step(stack):
        image, at = stack.folder / "disk", stack.folder / "mounted"
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        at.mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, at], check=True)
        stack.undo.callback(subprocess.run, ["umount", "-l", at], check=True)
        shutil.copytree(settings(stack, name)["data_dir"], at / "data")
        stack.kept["disk"] = at
        restart_with(name, data_dir=str(at / "data"))(stack)

    return step


def fill_disk(left_bytes):
    """Until so much is left of it."""

    def step(stack):
        at = stack.kept["disk"]
        room = os.statvfs(at)
        free = room.f_bavail * room.f_frsize
        with open(at / "filler", "ab") as file:
            os.posix_fallocate(file.fileno(), 0, file.tell() + free - left_bytes)

    return step


def fill_disk_more(more_bytes):
    """By so much each time."""

    def step(stack):
        with open(stack.kept["disk"] / "filler", "ab") as file:
            os.posix_fallocate(file.fileno(), 0, file.tell() + more_bytes)

    return step


def make_room(stack):
    (stack.kept["disk"] / "filler").unlink()


def few_descriptors(name, spare):
    """It may open so many more than it has open."""

    def step(stack):
        pid = stack.process(name)["pid"]
        stack.kept["descriptors"] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        most = len(os.listdir(f"/proc/{pid}/fd")) + spare
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, stack.kept["descriptors"][1]))

    return step


def descriptors_back(name):
    return lambda stack: resource.prlimit(
        stack.process(name)["pid"], resource.RLIMIT_NOFILE, stack.kept["descriptors"])


def own_clock(name):
    """Started again with a clock that can be set wrong."""

    def step(stack):
        file = stack.folder / "skew"
        file.write_text("0")
        restart_with(name, clock_skew_file=str(file))(stack)

    return step


def skew(milliseconds):
    return lambda stack: (stack.folder / "skew").write_text(str(milliseconds))


def listen_to_everybody(name):
    """Without TLS: to callers of other machines too, as a setting allows."""

    def step(stack):
        port = urllib.parse.urlparse(stack.process(name)["url"]).port
        restart_with(name, listen=f"0.0.0.0:{port}", allow_plaintext="true")(stack)

    return step


def restart_without_copies(name, wait_s=3):
    """With nothing in its folder. It is not ready as long as what it reads is away: that is not waited for."""

    def step(stack):
        stack.run("stop", name)
        folder = settings(stack, name)["data_dir"]
        for copy in os.listdir(folder):
            if copy.endswith(".copy"):
                os.remove(os.path.join(folder, copy))
        try:
            stack.run("restart", name, timeout=wait_s)
        except subprocess.TimeoutExpired:
            pass

    return step
