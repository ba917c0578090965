"""What a node has left, told from Slurm's texts of any version, held against a model of its devices."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.slurm.notation import expand_hosts, state_words, tres
from studiolo.slurm.resources import Resources, resources_of

PER_GPU = 4


def node(gres: str, gres_used: str = "", tres_used: str = "") -> tuple[Resources, Resources]:
    return resources_of(
        cpus=32, cpus_used=0, memory=1024, memory_used=0, gres=gres, gres_used=gres_used, tres_used=tres_used
    )


@dataclass(frozen=True)
class Devices:
    """The GPUs of a node: each in use as a whole (``None``), or so many of its shards."""

    used: tuple[int | None, ...]

    @property
    def whole(self) -> int:
        return self.used.count(None)

    @property
    def shards(self) -> int:
        return sum(number or 0 for number in self.used)

    @property
    def free(self) -> Resources:
        shards = sum(PER_GPU - number for number in self.used if number is not None)
        return Resources(32, 1024, {"a100": self.used.count(0)}, shards)

    @property
    def gres(self) -> str:
        return f"gpu:a100:{len(self.used)}(S:0-1),shard:a100:{len(self.used) * PER_GPU}(S:0-1)"

    @property
    def tres_used(self) -> str:
        gpus = f",gres/gpu={self.whole},gres/gpu:a100={self.whole}" if self.whole else ""
        return f"cpu=3,mem=500M{gpus}" + (f",gres/shard={self.shards}" if self.shards else "")

    def gres_used(self, generation: str) -> str:
        whole = [index for index, number in enumerate(self.used) if number is None]
        touched = [index for index, number in enumerate(self.used) if number]
        if generation == "22.05":  # the number counts devices, and nobody says how many of their shards
            shards = f"{len(touched)}(IDX:{_listed(touched)})"
        else:
            shards = f"{self.shards}({','.join(f'{number or 0}/{PER_GPU}' for number in self.used)})"
        return f"gpu:a100:{len(whole)}(IDX:{_listed(whole)}),shard:a100:{shards}"


def _listed(numbers: list[int]) -> str:
    """As Slurm prints a set of numbers: ``0-2,5``, or ``N/A`` for none."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in ranges) or "N/A"


DEVICES = st.lists(st.one_of(st.none(), st.integers(0, PER_GPU)), min_size=1, max_size=16).map(
    lambda used: Devices(tuple(used))
)


@pytest.mark.parametrize("generation", ["22.05", "24.11"])
@given(devices=DEVICES)
def test_what_is_free_is_exact_where_slurm_tells_the_devices(generation: str, devices: Devices) -> None:
    total, free = node(devices.gres, devices.gres_used(generation), devices.tres_used)
    assert total == Resources(32, 1024, {"a100": len(devices.used)}, len(devices.used) * PER_GPU)
    assert free == devices.free


@pytest.mark.parametrize(
    ("with_details", "with_accounting"), [(False, True), (True, False)], ids=["no details", "shards not accounted"]
)
@given(devices=DEVICES)
def test_never_more_is_told_free_than_there_is(with_details: bool, with_accounting: bool, devices: Devices) -> None:
    used = devices.gres_used("22.05") if with_details else ""
    _, free = node(devices.gres, used, devices.tres_used if with_accounting else "cpu=3,mem=500M")
    assert free.gpu_count() <= devices.free.gpu_count()
    assert free.shards <= devices.free.shards


@pytest.mark.parametrize(
    ("gres", "gres_used", "tres_used", "gpus", "shards"),
    [
        ("(null)", "", "", {}, 0),
        ("", "gpu:0,shard:0", "", {}, 0),
        ("gpu:8(S:0-1)", "gpu:(null):3(IDX:0-2)", "cpu=3,gres/gpu=3", {"": 5}, 0),
        ("gpu:8(S:0-1)", "", "cpu=3,gres/gpu=3", {"": 5}, 0),
        ("gpu:A100:4(S:0,2),gpu:V100:2(S:1)", "gpu:A100:1(IDX:0),gpu:V100:2(IDX:4-5)", "", {"a100": 3, "v100": 0}, 0),
        ("gpu:a100:4,gpu:v100:2", "", "gres/gpu=2,gres/gpu:v100=2", {"a100": 2, "v100": 0}, 0),
        ("gpu:a100:4,gpu:a100:2", "gpu:a100:5(IDX:0-4)", "", {"a100": 1}, 0),
        ("gpu:a100:no_consume:4", "", "", {"a100": 4}, 0),
        ("gpu:a100_1g.5gb:14,gpu:a100_3g.20gb:4", "gpu:a100_1g.5gb:2(IDX:0,5)", "", {"a100_1g.5gb": 12, "a100_3g.20gb": 4}, 0),
        # Shards of no type on the GPUs of two types: which of them are touched is not told.
        ("gpu:a100:2,gpu:v100:2,shard:16", "gpu:a100:0(IDX:N/A),gpu:v100:1(IDX:2),shard:(null):3(0/4,3/4,0/4,0/4)", "", {"a100": 1, "v100": 0}, 9),
        ("gpu:a100:4,nvme:1,shard:a100:16", "gpu:a100:9(IDX:0-8)", "", {"a100": 0}, 0),
        ("gpu", "gpu:a100", "gres/gpu", {}, 0),
    ],
)  # fmt: skip
def test_gpus_and_shards_are_read_in_every_notation(
    gres: str, gres_used: str, tres_used: str, gpus: dict[str, int], shards: int
) -> None:
    _, free = node(gres, gres_used, tres_used)
    assert (free.gpus, free.shards) == (gpus, shards)


@given(*[st.one_of(st.text(), st.text("gpushard:a1(0)/,-IDX=."))] * 3)
def test_any_text_is_read_or_a_value_error(gres: str, gres_used: str, tres_used: str) -> None:
    try:
        total, free = node(gres, gres_used, tres_used)
    except ValueError:
        return
    assert 0 <= free.shards <= total.shards
    assert all(0 <= free.gpus[of_type] <= number for of_type, number in total.gpus.items())


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Resources(cpus=2, memory=4096), 8),
        (Resources(cpus=2, memory=40000), 1),
        (Resources(cpus=1, memory=1024, gpus={"a100": 1}), 3),
        (Resources(cpus=1, memory=1024, gpus={"a100": 2}), 1),
        (Resources(cpus=1, memory=1024, gpus={"": 2}), 2),
        (Resources(cpus=1, memory=1024, gpus={"h100": 1}), 0),
        (Resources(cpus=1, memory=1024, shards=1), 6),
        (Resources(cpus=17, memory=1024), 0),
    ],
)
def test_how_many_sessions_fit(wanted: Resources, number: int) -> None:
    assert Resources(16, 65536, {"a100": 3, "v100": 1}, 6).times(wanted) == number


def test_amounts_add_up_kind_by_kind() -> None:
    one, other = Resources(1, 2, {"a100": 1}, 3), Resources(10, 1, {"a100": 2, "v100": 4}, 0)
    assert one + other == Resources(11, 3, {"a100": 3, "v100": 4}, 3)
    assert one.most(other) == Resources(10, 2, {"a100": 2, "v100": 4}, 3)
    assert (one + other).gpu_count("A100") == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("gpu1", ("gpu1",)),
        ("gpu[1-2,04],login", ("gpu1", "gpu2", "gpu04", "login")),
        ("n[008-011]", ("n008", "n009", "n010", "n011")),
        ("r[1-2]n[1-2]-ib0", ("r1n1-ib0", "r1n2-ib0", "r2n1-ib0", "r2n2-ib0")),
        ("n[3-1]", ()),
    ],
)
def test_lists_of_hosts_are_read(text: str, names: tuple[str, ...]) -> None:
    assert expand_hosts(text) == names


@pytest.mark.parametrize("text", ["n[1-", "n]1[", "n[a-b]", "n[]", "n[1-99999999]", "n[0-9999]m[0-9999]", "n[[1]]"])
def test_no_list_of_hosts_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"host"):
        expand_hosts(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IDLE", ("IDLE",)),
        ("mixed", ("MIXED",)),
        ("MIXED+PLANNED", ("MIXED", "PLANNED")),
        ("DOWN*+DRAIN", ("DOWN", "NOT_RESPONDING", "DRAIN")),
        ("IDLE+CLOUD~", ("IDLE", "CLOUD", "POWERED_DOWN")),
        ("ALLOCATED#", ("ALLOCATED", "POWERING_UP")),
        ("IDLE+DRAIN+NOT_RESPONDING", ("IDLE", "DRAIN", "NOT_RESPONDING")),
        ("", ()),
    ],
)
def test_states_are_read_word_by_word(text: str, words: tuple[str, ...]) -> None:
    assert state_words(text) == words


def test_tres_are_read_without_amounts_that_have_a_unit() -> None:
    assert tres("cpu=8,mem=500M,gres/gpu:A100=2,billing=x") == {"cpu": 8, "gres/gpu:a100": 2}
