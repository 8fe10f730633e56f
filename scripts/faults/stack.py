"""A local stack in a folder of its own, which goes with it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

BUCKET = """[[policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 1000000000 }
"""


class Stack:
    def __init__(self, programs):
        self.cellctl, self.folder = programs / "cellctl", Path(tempfile.mkdtemp(prefix="cellar-record-"))
        self.state = self.folder / "stack/state.json"
        # What steps set for the stack's processes, and what they keep of it until it is mended.
        self.environment, self.kept, self.callers = {}, {}, None
        # What is to be undone once the stack is down, whatever became of the fault: all of it, the last first.
        self.undo = ExitStack()
        self.undo.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, earlier, _):
        try:
            with self.undo:
                # Also after an `up` that was interrupted, but not if nothing was begun.
                if self.state.exists():
                    self.run("down", "--delete")
        except (Exception, SystemExit) as error:
            if earlier is None:
                raise
            # What went wrong first is what somebody has to know, and what is told last.
            while error not in (None, earlier):
                print(f"afterwards: {error}", file=sys.stderr)
                error = error.__context__

    def run(self, *arguments, good=(0,), timeout=None):
        command = [self.cellctl, *arguments, "--stack", self.folder / "stack"]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment,
                              timeout=timeout)
        if done.returncode not in good:
            raise SystemExit(f"cellctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self, arguments):
        shape = [] if "--regions" in arguments else ["--regions", "1", "--cells", "2"]
        self.run("up", *shape, "--detach", *arguments)
        return self.status()

    def status(self):
        return json.loads(self.run("status", "--json"))

    def process(self, name):
        return next(one for one in self.status()["processes"] if one["name"] == name)

    def policy_keys(self):
        return self.folder / "stack/secrets/policy-keys"

    def put_policy(self, name, line):
        """Publishes a policy that is what `policy new` writes, but for one line before it decides."""
        self.run("policy", "new", name)
        source, at = self.folder / name / "src/lib.rs", "        let today = parameters.day(request.now_us);"
        text = source.read_text()
        if at not in text:
            raise SystemExit(f"`policy new` writes no line{at}")
        source.write_text(text.replace(at, f"        {line}\n{at}"))
        component = str(self.folder / f"{name}.wasm")
        self.run("policy", "build", name, "--out", str(self.folder))
        self.run("policy", "sign", "--component", component)
        self.run("policy", "publish", "--component", component)
        return f"""[[policy]]
slot = "daily"
use = "{name}@1"
unit = "tokens"
settings = {{ limit = 1000000000 }}
"""

    def put_tier(self, lines, slot="", name="recorded"):
        """With a bucket that nobody exhausts."""
        file = self.folder / f"{name}.toml"
        file.write_text(f'name = "{name}"\n{lines}\n{BUCKET}{slot}')
        self.run("tier", "apply", str(file), "--yes")
        return name
