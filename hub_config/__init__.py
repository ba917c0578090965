"""JupyterHub's configuration, made from the site file."""
