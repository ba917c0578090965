"""Notebooks as batch jobs: what lies in a run's folder, what its job executes, and what is true of it. The names that people
type are in :mod:`studiolo.jobs`."""
