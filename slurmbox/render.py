"""From the instance to the text of every file that its daemons read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slurmbox.design import SHARDS_PER_GPU, parse_version
from slurmbox.instance import Instance

TEMPLATES = Path(__file__).parent / "templates"
# The first Slurm that knows CgroupPlugin=disabled; to one before it the word is a fault, and its plugin
# for control groups v1 touches nothing while nothing is asked of it.
CGROUP_OFF_SWITCH = (24, 5, 0)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )


def billing_weights(shards: bool) -> str:
    """``TRESBillingWeights``: a quarter of a GPU (one shard) is 1 a minute, a whole one 4; CPUs and memory are free.

    Slurm keeps a job's billing as a whole number, rounded down: at 0.25 a shard, a course would be charged nothing.
    """
    weights = f"CPU=0.0,Mem=0.0,GRES/gpu={SHARDS_PER_GPU}.0"
    return f"{weights},GRES/shard=1.0" if shards else weights


def context(instance: Instance) -> dict[str, Any]:
    """What the templates may use."""
    f = instance.features
    version = parse_version(f.slurm_version) if f.slurm_version else (0, 0, 0)
    return {
        "box": instance,
        "people": instance.people,
        "nodes": instance.nodes,
        "partitions": instance.partitions,
        "slurm": instance.state / "slurm",
        "host": f.hostname,
        "plan": instance.confinement,
        "real_model": f.real_gpu_model,
        "billing": billing_weights(f.shards),
        "modern": version >= (22, 5, 0),
        "cgroup_off_switch": version >= CGROUP_OFF_SWITCH,
    }


def render(template: str, instance: Instance) -> str:
    """The text of one file; raises jinja2.UndefinedError on a name that the template should not use."""
    return _environment().get_template(template).render(context(instance))


def slurm_files(instance: Instance) -> dict[str, str]:
    """File name in ``slurm/etc`` -> text, for the files that all may read."""
    return {name: render(f"{name}.j2", instance) for name in ("slurm.conf", "gres.conf", "cgroup.conf")}


def site_toml(instance: Instance) -> str | None:
    """The site file for the hub, if this installation brings a template for it."""
    return render("site.toml.j2", instance) if (TEMPLATES / "site.toml.j2").is_file() else None
