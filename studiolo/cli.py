"""The command ``studiolo``: for operators, what the hub would do, without doing it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from studiolo import doctor
from studiolo.errors import StudioloError, printable
from studiolo.holdings.check import examine
from studiolo.request import FIELDS, check
from studiolo.script import render
from studiolo.session_job import session_job
from studiolo.site import Site, load
from studiolo.sudoers import sudoers

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 0 fine, 1 faults found, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        if options.run == _catalogue_check:  # a folder can be checked where there is no site file
            return _catalogue_check(options)
        return int(options.run(load(options.site), options))
    except StudioloError as error:
        print(error, file=sys.stderr)
        return 1


def _check(site: Site, options: argparse.Namespace) -> int:
    print(
        f"{options.site}: good. {len(site.clusters)} cluster(s), {len(site.partitions)} partition(s), "
        f"{len(site.profiles)} profile(s), {len(site.environments)} environment(s)."
    )
    return 0


def _doctor(site: Site, options: argparse.Namespace) -> int:
    findings = doctor.examine(site, Path(options.site))
    if options.json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding)
    return 1 if any(finding.level == "fault" for finding in findings) else 0


def _script(site: Site, options: argparse.Namespace) -> int:
    given = dict(pair.partition("=")[::2] for pair in options.option)
    request = check(given, site)
    print(render(request, site, session_job(site, request, "0" * 16, "0" * 32)).text, end="")
    return 0


def _sudoers(site: Site, options: argparse.Namespace) -> int:
    print(sudoers(site), end="")
    return 0


def _catalogue_check(options: argparse.Namespace) -> int:
    if options.folder:
        folders = [Path(options.folder)]
    else:
        catalogue = load(options.site).catalogue
        folders = [Path(folder) for folder in (*catalogue.data, *catalogue.models)]
    faulty = [folder for folder in folders if _examined(folder)]
    return 1 if faulty else 0


def _examined(folder: Path) -> bool:
    """Print what is wrong with one folder of the catalogue; whether anything is."""
    sets, wrong = 0, 0
    try:
        for path, faults in examine(folder):
            sets += 1
            wrong += bool(faults)
            for fault in faults:
                print(f"{printable(str(path))}: {fault}")
    except OSError as error:
        print(f"{folder}: can not be read ({error.strerror})", file=sys.stderr)
        return True
    print(f"{folder}: {sets} data set(s) or model(s), {wrong} with faults")
    return wrong > 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="studiolo", description="Notebooks on a supercomputer: the operator's command."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, help_text in (
        ("check", _check, "check the site file; all faults are listed"),
        ("doctor", _doctor, "compare the site file with this host and the live cluster"),
        ("script", _script, "print the batch script that a request would give; submits nothing"),
        ("sudoers", _sudoers, "print the sudoers rule that the hub needs"),
        (
            "catalogue",
            _catalogue_check,
            "check data sets and models: cards, files, hashes, permissions; all faults are listed",
        ),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        command.set_defaults(run=run)
        command.add_argument("--site", default="/etc/studiolo/site.toml", metavar="FILE", help="default: %(default)s")
        if name == "doctor":
            command.add_argument("--json", action="store_true", help="findings as JSON")
        if name == "catalogue":
            command.add_argument("action", choices=["check"])
            command.add_argument("folder", nargs="?", metavar="FOLDER", help="default: all folders of the site file")
        if name == "script":
            fields = ", ".join(FIELDS)
            command.add_argument("option", nargs="*", metavar="FIELD=VALUE", help=f"fields: {fields}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
