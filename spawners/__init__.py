"""Studiolo's half of JupyterHub: the spawner on the hub (`server`), and what it starts on the node (`singleuser`)."""
