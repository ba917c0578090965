# mypy: disable-error-code="name-defined"
"""What `jupyterhub --config` reads: the site file named by STUDIOLO_SITE, then the centre's own *.py files."""

import os
import sys
from pathlib import Path

from hub_config import certificates
from hub_config.configure import configure
from hub_config.serving import begin_when_serving
from studiolo.errors import SiteError
from studiolo.site import load

c = get_config()  # noqa: F821 - traitlets puts it here

site_file = os.environ.get("STUDIOLO_SITE", "/etc/studiolo/site.toml")
try:
    site = load(site_file)
    if site.hub.internal_tls:
        certificates.ensure(site)
    configure(c, site, site_file)
except SiteError as error:
    sys.exit(str(error))
begin_when_serving(site_file)

if site.paths.extra_config:
    for extra in sorted(Path(site.paths.extra_config).glob("*.py")):
        load_subconfig(str(extra))  # noqa: F821
