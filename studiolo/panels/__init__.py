"""Panels: what a person has on the cluster as a page. In a notebook it is live (``live``); the hub has the same page's lists."""
