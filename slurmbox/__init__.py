"""A real Slurm cluster on one machine: every daemon of a site, simulated GPUs, demo people.

It is a site like any other: it knows nothing of hub, spawner or toolkit, and they know nothing
of it but the ``site.toml`` it writes.

``instance``   what one instance has chosen once: names, ports, folders
``facts``      what this machine offers (probed);  ``design``  what follows from it (plain functions)
``render``     templates to files;  ``programs``  the daemons and how each is started
``supervise``  the process supervisor;  ``ready``  asking each daemon whether it is there
``accounts``   unix accounts;  ``accounting``  Slurm's associations, limits and QoS
``box``        up, down, status, clean: the one place that acts
"""
