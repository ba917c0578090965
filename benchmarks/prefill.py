"""Fill a fresh database of a hub with people whose servers run: ``python prefill.py FACTS``, as the hub's account.

``FACTS`` is a JSON file: ``url`` of the database, ``port`` on which all servers answer, ``states`` of the spawners by
name of their person.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from jupyterhub import orm


def main() -> None:
    """Make the database."""
    facts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    session = orm.new_session_factory(facts["url"])()
    now = datetime.now(timezone.utc).replace(tzinfo=None)  # as JupyterHub keeps its times
    for name, state in facts["states"].items():
        user = orm.User(name=name, last_activity=now)
        server = orm.Server(proto="http", ip="127.0.0.1", port=facts["port"], base_url=f"/user/{name}/")
        spawner = orm.Spawner(name="", user=user, server=server, state=state, started=now, last_activity=now)
        session.add_all([user, server, spawner])
    session.commit()


if __name__ == "__main__":
    main()
