"""The image without a Docker engine: `Dockerfile` as it is, built by buildah on a base that debootstrap makes, and run
as pid 1 in namespaces of its own. `make image-test`; as root on Debian, with debootstrap and buildah of apt; 12 GB.

    python -m tests.operations.image base | build | check | clean --work D [--wheels D]

    base    Debian's Python 3.11 under the name that the Dockerfile begins with
    build   the image; `--wheels`: a folder with torch's CPU wheel, where its index cannot be reached
    check   no token: exit 2, one line; with one: ready, answers, uid 1000, code read-only; SIGTERM under load; a batch
    clean   unmounts, and removes the folder
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.support.paths import ROOT

BASE, IMAGE, MIRROR = (
    "docker.io/library/python:3.11-slim-bookworm",
    "localhost/nunchi:cpu",
    "http://deb.debian.org/debian",
)
INCLUDED = "python3,python3-venv,python3-pip,ca-certificates"
NETWORK = "nunchi-image"
TOKEN = "a-token-of-this-test-0123456789abcdef"
URL = "http://127.0.0.1:8000"
TEXT = "옷은 예쁘지만 배송은 늦어요"


def buildah(work: Path, *arguments: str) -> str:
    """Runs buildah on a store of its own; returns what it says on stdout."""
    store = ["--root", f"{work}/store", "--runroot", f"{work}/run", "--storage-driver", "vfs"]
    done = subprocess.run(["buildah", *store, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def base(work: Path, _: str) -> None:
    root = work / "base"
    if not (root / "usr/bin/python3.11").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", "bookworm", root, MIRROR], check=True
        )
    (root / "usr/bin/python").unlink(missing_ok=True)
    (root / "usr/bin/python").symlink_to("python3")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    container = buildah(work, "from", "scratch")
    buildah(work, "copy", "-q", container, str(root), "/")
    buildah(work, "commit", "-q", container, BASE)
    buildah(work, "rm", container)


def build(work: Path, wheels: str) -> None:
    settings = ["[global]", "retries = 0", "timeout = 60", *([f"find-links = {wheels}"] if wheels else [])]
    (work / "pip.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
    mounts = ["--volume", f"{work}/pip.conf:/etc/pip.conf:ro"]
    mounts += ["--volume", f"{wheels}:{wheels}:ro"] if wheels else []
    began = time.monotonic()
    options = ["--isolation", "chroot", "--network", "host", "--pull-never", "--layers=false", "--format", "docker"]
    buildah(work, "bud", *options, *mounts, "--build-arg", "TORCH=cpu", "-t", IMAGE, ".")
    print(f"built in {time.monotonic() - began:.0f} s")


def container(work: Path) -> tuple[Path, dict[str, Any]]:
    """The root folder of a container of the image, and the image's configuration."""
    known = work / "container"
    if not known.exists():
        known.write_text(buildah(work, "from", "--pull-never", IMAGE), encoding="utf-8")
    name = known.read_text(encoding="utf-8")
    inspected = json.loads(buildah(work, "inspect", "--type", "image", IMAGE))
    return Path(buildah(work, "mount", name)), inspected["Docker"]["config"]


class Container:
    """A command of the image as pid 1 of namespaces of its own, as the user and with the environment of the image."""

    def __init__(self, root: Path, config: dict[str, Any], command: list[str], **environment: str) -> None:
        settings = [*config["Env"], "HOME=/home/nunchi", *(f"{name}={value}" for name, value in environment.items())]
        user = ["chroot", f"--userspec={config['User']}:{config['User']}", str(root)]
        inside = ["env", "-i", "-C", config["WorkingDir"], *settings, *command]
        mounts = (
            f"mount -t proc proc {root}/proc && mount --rbind /sys {root}/sys && mount -t tmpfs tmpfs {root}/dev && "
            f"for d in null zero random urandom; do touch {root}/dev/$d; mount --bind /dev/$d {root}/dev/$d; done; "
            f"ln -s /proc/self/fd {root}/dev/fd; "
            f'mkdir -m 1777 {root}/dev/shm && mount -t tmpfs -o size=2g tmpfs {root}/dev/shm && exec "$@"'
        )
        spaces = ["unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "sh", "-c", mounts, "sh"]
        self.process = subprocess.Popen(
            [*spaces, *user, *inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def stop(self) -> None:
        """SIGTERM to pid 1, as an engine's `stop` sends it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        os.kill(int(children.split()[0]), signal.SIGTERM)

    def ended(self, seconds: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, once it has ended."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def check(work: Path, _: str) -> None:
    """Runs `checks` in a network of its own, where ports are free."""
    subprocess.run(["ip", "netns", "add", NETWORK], check=False, stderr=subprocess.DEVNULL)
    inside = ["ip", "netns", "exec", NETWORK]
    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
    command = [sys.executable, "-m", "tests.operations.image", "checks", "--work", str(work)]
    try:
        sys.exit(subprocess.run([*inside, *command], cwd=ROOT, check=False).returncode)
    finally:
        subprocess.run(["ip", "netns", "delete", NETWORK], check=False)


def checks(work: Path, _: str) -> None:
    root, config = container(work)
    data = root / "data"
    shutil.copytree(ROOT / "ray_app/inference/ready", data / "bundle", dirs_exist_ok=True)
    (data / "out").mkdir(exist_ok=True)
    os.chown(data / "out", 1000, 1000)
    code, out, err = Container(root, config, config["Cmd"]).ended(120)
    expect(
        code == 2 and len((out + err).strip().splitlines()) == 1, f"without a token: exit {code}: {(out + err).strip()}"
    )
    user(root, config)
    serve(root, config)
    batch = ["python", "-m", "jobs.analyze", "--output", "/data/out/analyses", "--limit", "200", "--placement", "fused"]
    began = time.monotonic()
    code, out, err = Container(root, config, batch).ended(400)
    last = (out.strip() or err.strip()).splitlines()[-2:]
    expect(code == 0, f"a batch of 200 on Ray: exit {code} after {time.monotonic() - began:.0f} s: {' '.join(last)}")


def user(root: Path, config: dict[str, Any]) -> None:
    """Who it runs as, and that it cannot write its own code."""
    script = (
        "import os, ray_app; f = ray_app.__file__; "
        "print(os.getuid(), os.access(f, os.W_OK), os.access(os.path.dirname(f), os.W_OK), os.getpid())"
    )
    code, out, err = Container(root, config, ["python", "-c", script]).ended(60)
    expect(
        (code, out.split()) == (0, ["1000", "False", "False", "1"]),
        f"uid, code writable, folder writable, pid: {out.strip()} {err}",
    )


def serve(root: Path, config: dict[str, Any]) -> None:
    """The default command with a token: ready, answers, and SIGTERM while it is asked."""
    began, headers = time.monotonic(), {"Authorization": f"Bearer {TOKEN}"}
    endpoint = Container(root, config, config["Cmd"], NUNCHI_TOKEN=TOKEN)
    while status("/ready", headers) != 200:
        if endpoint.process.poll() is not None or time.monotonic() - began > 400:
            expect(False, f"not ready: {endpoint.ended(30)}")
        time.sleep(0.5)
    print(f"ready after {time.monotonic() - began:.0f} s")
    answer = requests.post(f"{URL}/analyze", json={"reviews": [TEXT]}, headers=headers, timeout=30)
    expect(answer.status_code == 200 and "배송" in answer.text, f"an answer: {answer.status_code} {answer.text[:200]}")
    expect(
        requests.post(f"{URL}/analyze", json={"reviews": [TEXT]}, timeout=30).status_code == 401,
        "401 without the token",
    )
    over, answers = threading.Event(), Counter[str]()
    threads = [threading.Thread(target=ask, args=(over, answers, headers)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    stopped = time.monotonic()
    endpoint.stop()
    code, _, err = endpoint.ended(90)
    seconds = time.monotonic() - stopped
    over.set()
    for thread in threads:
        thread.join()
    noise = [line for line in err.splitlines() if "Traceback" in line or "raylet" in line]
    wrong = {kind: count for kind, count in answers.items() if kind not in ("200", "503", "refused")}
    expect(
        code == 0 and not wrong and not noise,
        f"SIGTERM under load: exit {code} after {seconds:.1f} s, {dict(answers)}, {noise[:2]}",
    )


def status(path: str, headers: dict[str, str]) -> int:
    try:
        answer = requests.get(f"{URL}{path}", headers=headers, timeout=5)
    except requests.RequestException:
        return 0
    return int(answer.status_code)


def ask(over: threading.Event, answers: Counter[str], headers: dict[str, str]) -> None:
    """Asks until `over`; a connection that nobody accepts any more is no lost answer, one that is cut is."""
    while not over.is_set():
        try:
            answer = requests.post(f"{URL}/analyze", json={"reviews": [TEXT]}, headers=headers, timeout=30)
            answers[str(answer.status_code)] += 1
        except requests.ConnectionError as error:
            answers["refused" if "Connection refused" in str(error) else type(error).__name__] += 1
            time.sleep(0.2)


def expect(held: bool, what: str) -> None:
    """Prints what was seen; ends the program where it is not what must be."""
    print(("ok: " if held else "FAILED: ") + what, flush=True)
    if not held:
        sys.exit(1)


def clean(work: Path, _: str) -> None:
    if (work / "container").exists():
        buildah(work, "rm", "--all")
    shutil.rmtree(work)


def main() -> None:
    what: dict[str, Callable[[Path, str], None]] = {
        "base": base,
        "build": build,
        "check": check,
        "checks": checks,
        "clean": clean,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=what)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "image")
    parser.add_argument("--wheels", default="")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    what[arguments.what](arguments.work.absolute(), arguments.wheels)


if __name__ == "__main__":
    main()
