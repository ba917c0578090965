"""The only code that talks to Slurm: builders and parsers are plain functions, one runner, one watcher for all jobs."""
