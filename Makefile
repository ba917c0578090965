# Every chore in one word. The work is done by deploy/, with the system's Python:
# sessions of all users run on it, so it must not be somebody's private one.
PYTHON := /usr/bin/python3
ARGS ?=

help:
	@echo 'make up         the whole platform on this machine: cluster, hub, demo people'
	@echo 'make status     what runs, which nodes, whose sessions'
	@echo 'make down       stop it; make up goes on where it was'
	@echo 'make clean      stop it and remove it: state, software, accounts'
	@echo 'make test       all tests on instances of their own (ARGS="-k name" for some)'
	@echo 'make test-slurm24  those of cluster and hub once more, on Slurm 24.11 (Debian 13 in a folder)'
	@echo 'make test-fast  the tests that need no process, in seconds'
	@echo 'make bench      beside stock batchspawner (ARGS="class-start-60 --runs 5" for some rows)'
	@echo 'make lint docs  docs with pictures from a platform of their own (ARGS=--no-pictures: as they are)'

up down status clean test test-slurm24 test-fast lint docs bench:
	@test -x $(PYTHON) || { echo 'Install Python first: apt-get install python3' >&2; exit 2; }
	@$(PYTHON) -B -m deploy $@ $(if $(ARGS),-- $(ARGS))

.PHONY: help up down status clean test test-slurm24 test-fast lint docs bench
