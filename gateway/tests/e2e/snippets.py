"""snippets.py ROOT: runs the snippets of the documents, in their order, against a gateway of the development profile.

A fenced block of shell or Python says on its first line what becomes of it, behind the language:

    run            it is run; a shell's must succeed within a minute. A Python client, and lines that begin with
                   `gateway run` or `gateway tail`, go on until the end of the document, and must have printed something.
    alone          the same, without a gateway beside it.
    skip=REASON    it is not run here; the reason in a few words, with hyphens.

A block without either is a fault, and so is a number of blocks that are run below RUN_MIN. In a shell's block KEY is the
API key of the development profile, if it asks for one. Runs in a network namespace of its own (snippets.sh), because the
snippets have the ports that users have."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

RUN_MIN = 7
TIMEOUT_S = 60
GOES_ON = ("gateway run", "gateway tail")

root = pathlib.Path(sys.argv[1]).resolve()
documents = sorted([*root.glob("*.md"), *root.glob("docs/*.md")])
block_pattern = re.compile(r"^```(sh|python)([^\n]*)\n(.*?)^```", re.M | re.S)


class Failed(Exception):
    """A snippet did not do as its document says."""


class Document:
    """What runs for one document, in a folder of its own."""

    def __init__(self, path):
        self.name = str(path.relative_to(root))
        self.text = path.read_text()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="snippets-"))
        for shown in ("configs", "target"):
            (self.folder / shown).symlink_to(root / shown)
        self.running = []
        self.count = 0
        self.started = 0
        self.environment = {**os.environ, "PATH": f"{root}/target/release:{os.environ['PATH']}", "KEY": "none-is-asked-for"}

    def start(self, name, command):
        """A command that goes on, in a group of its own; its output is kept."""
        self.started += 1
        log = self.folder / f"log-{self.started}"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.running.append((name, process, log))

    def stop(self):
        """Ends what goes on, the last first; each must have run until now and have printed something."""
        while self.running:
            name, process, log = self.running.pop()
            ended = process.poll()
            output = log.read_text(errors="replace")
            if ended is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(TIMEOUT_S)
            if ended is not None or (not output.strip()):
                raise Failed(f"{self.name}: {name}: ended with {ended}, printed:\n{output[-2000:]}")

    def serve(self):
        """A gateway as `make run` starts it."""
        if not any(name.startswith("gateway run") for name, *_ in self.running):
            self.start("gateway run", [str(root / "target/release/gateway"), "run", "--config", str(root / "configs/gateway.dev.toml")])
        self.await_ready()

    def await_ready(self):
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            try:
                return urllib.request.urlopen("http://127.0.0.1:3111/readyz", timeout=5).read()
            except OSError:
                time.sleep(0.05)
        raise Failed(f"{self.name}: no gateway is ready: {[log.read_text() for *_, log in self.running]}")

    def python(self, line, code):
        self.start(f"line {line}", [sys.executable, "-c", code])
        time.sleep(1)

    def shell(self, line, code):
        """A block is one shell, but for what goes on; that is started on the way."""
        waiting = []
        for part in code.splitlines():
            command = part.split("   #")[0].strip()
            if not command.startswith(GOES_ON):
                waiting.append(part)
                continue
            self.once(line, "\n".join(waiting))
            waiting = []
            if command.startswith("gateway run"):
                self.stop()
            self.start(command, ["bash", "-c", f"exec {command}"])
            self.await_ready()
            time.sleep(1)
        self.once(line, "\n".join(waiting))

    def once(self, line, code):
        if not code.strip():
            return
        made = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
        )
        if made.returncode != 0:
            raise Failed(f"{self.name}:{line}: ended with {made.returncode}\n{code}\n{made.stdout.decode()}{made.stderr.decode()}")
        refused = re.search(r'"(?:error|code)":\s*"?(?!0\b)\w+', made.stdout.decode())
        if refused:
            raise Failed(f"{self.name}:{line}: refused: {made.stdout.decode()}")

    def blocks(self):
        for found in block_pattern.finditer(self.text):
            line = self.text[: found.start()].count("\n") + 1
            language, mark, code = found.group(1), found.group(2).strip(), found.group(3)
            if re.fullmatch(r"skip=[\w-]{5,}", mark):
                continue
            if mark not in ("run", "alone"):
                raise Failed(f"{self.name}:{line}: a block of {language} says neither run nor skip=REASON")
            if mark == "run" and "gateway run" not in code:
                self.serve()
            yield language, line, code

    def run(self):
        for language, line, code in self.blocks():
            (self.python if language == "python" else self.shell)(line, code)
            self.count += 1
        time.sleep(0.5)
        self.stop()

    def clean(self):
        for _, process, _ in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder)


count = 0
for path in documents:
    document = Document(path)
    try:
        document.run()
    except Failed as failure:
        sys.exit(str(failure))
    finally:
        document.clean()
    count += document.count
if count < RUN_MIN:
    sys.exit(f"only {count} snippets were run, {RUN_MIN} at least")
print(f"snippets: {count} run")
