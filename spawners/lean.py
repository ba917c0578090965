"""What a session's server need not load to begin: seconds of a start, spent on things that it never uses.

Measured with JupyterLab 4.6, JupyterHub 6.1 and jsonschema 4.26 (`make bench` shows the phases):

- ``rfc3987_syntax`` builds a grammar of all IRIs when it is imported, about 1.5 s. jsonschema takes it where it is there,
  to check the format of IRIs; the schemas of Jupyter's events name none. Our own lock file leaves it out; a site's other
  environments may hold it.
- ``jupyterlab.commands`` asks ``node`` for yarn's settings whenever it is imported and again when it is set up, about
  0.6 s each time where a node is installed. They matter to those who build JupyterLab.
- ``jupyterhub.log`` loads the hub's page handlers for the name of one class, and ``jupyterhub.scopes`` its database
  layer, which only the hub asks anything: about 0.7 s.
- httpx's command line, aiohttp's other resolver: some 0.1 s each.

All of it is left out only while the server is imported: whoever wants one of these modules later gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_server"]

# Each is optional for who imports it: "not installed" is a case that they know.
OPTIONAL = ("aiodns", "httpx._main", "rfc3987_syntax")
# What a server takes of JupyterHub, and what that loads of the hub's own, which no server calls: stand-ins with the one
# name that is asked for.
TAKEN = ("jupyterhub.log", "jupyterhub.scopes")
HUB_ONLY: dict[str, tuple[str, ...]] = {
    "jupyterhub.handlers": (),
    "jupyterhub.handlers.pages": ("HealthCheckHandler",),
    "jupyterhub.orm": (),
}


def import_server() -> tuple[type[Any], type[Any]]:
    """Import and return Jupyter's ``ServerApp`` and JupyterHub's ``JupyterHubSingleUser``, without the rest."""
    with _instead(dict.fromkeys(OPTIONAL)):
        with _instead({name: _stand_in(name, names) for name, names in HUB_ONLY.items()}):
            _import(TAKEN)
        _ask_no_node()
        from jupyter_server.serverapp import ServerApp
        from jupyterhub.singleuser.extension import JupyterHubSingleUser
    return ServerApp, JupyterHubSingleUser


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        try:
            import_module(name)
        except (ImportError, AttributeError):  # another version wants more of the hub: it gets all, and begins later
            return


def _ask_no_node() -> None:
    try:
        from jupyterlab import commands
    except ImportError:  # an environment with another frontend
        return
    commands._yarn_config = lambda logger: {"yarn config": {}, "npm config": {}}


def _stand_in(name: str, names: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    for each in names:
        setattr(module, each, type(each, (), {}))

    def of_the_real_one(attribute: str) -> Any:
        # Who took the stand-in keeps it: should the hub's own be needed after all, it is loaded then.
        real = import_module(name)
        if real is module:
            raise AttributeError(f"{name} is not loaded, and so has no {attribute}")
        return getattr(real, attribute)

    module.__getattr__ = of_the_real_one  # type: ignore[method-assign]
    return module


@contextmanager
def _instead(modules: dict[str, Any]) -> Iterator[None]:
    """Have ``import`` find these for a while; ``None`` reads as not installed. What was loaded before stays."""
    ours = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, module in ours.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
