"""The installer behind `make up`: from a bare Debian or Ubuntu machine to a running platform.

Two phases. The first runs with the system's Python and its standard library alone, from a checkout:
it looks at the machine and installs. The second runs inside the environment that the first made, from
the installed copy: it starts the cluster, the hub and the proxy.

``settings``   which folders and commands are meant
``facts``      what this machine is (looked up);  ``checks``  whether that will do (plain functions)
``sudo``       becoming root;  ``lock``  one command at a time
``steps``      what is shown;  ``runner``  commands, their output in the log
``apt``        system packages;  ``python_env``  the environment;  ``node``  the proxy and its Node.js
``stamps``     what was installed, so that it is not done again;  ``folders``  which folders are ours
``slurm24``    tests on Debian 13 in a folder;  ``enclosure``  entering such a folder
``chores``     test, test-fast, lint, docs, bench
``phase1``     the first phase, in order;  ``platform``  the second: the two places that act
``services``   hub and proxy as supervised programs;  ``hub_api``  asking the hub
``access``     passwords and access.json;  ``summary``, ``status``  what a person reads
"""
