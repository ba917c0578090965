"""A session's log: read only where it is a plain file of its owner's, whatever was put in its place."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners import sessionlog
from spawners.sessionlog import MAX_BYTES, remove, sweep, tail

DAY = 86400
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give files to another account")


def me() -> int:
    return os.getuid()


def write(folder: Path, data: str | bytes, name: str = "s.log") -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_the_last_lines_are_told_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"line {number}\n" for number in range(100)))
    assert tail(path, me(), lines=3) == ["line 97", "line 98", "line 99"]
    assert len(tail(path, me())) == 20


def test_blank_lines_are_left_out_and_a_missing_last_line_break_does_not_matter(tmp_path: Path) -> None:
    assert tail(write(tmp_path, "one\n\n   \n\ttwo"), me()) == ["one", "\ttwo"]


def test_an_empty_log_and_a_missing_one_have_no_lines(tmp_path: Path) -> None:
    assert tail(write(tmp_path, ""), me()) == []
    assert tail(str(tmp_path / "none.log"), me()) == []
    assert tail(str(tmp_path / "no folder" / "none.log"), me()) == []


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path, "secret\n", "secret")
    (tmp_path / "s.log").symlink_to(secret)
    assert tail(str(tmp_path / "s.log"), me()) == []


def test_a_second_name_of_another_file_is_not_read(tmp_path: Path) -> None:
    os.link(write(tmp_path, "secret\n", "secret"), tmp_path / "s.log")
    assert tail(str(tmp_path / "s.log"), me()) == []


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.log")
    assert tail(str(tmp_path / "s.log"), me()) == []


def test_a_pipe_that_somebody_writes_to_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "s.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"injected\n")
        assert tail(str(path), me()) == []
    finally:
        os.close(writer)
        os.close(reader)


def test_a_folder_a_socket_and_a_device_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    assert tail(str(tmp_path / "folder.log"), me()) == []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.log"))
        assert tail(str(tmp_path / "s.log"), me()) == []
    for device in ("/dev/zero", "/dev/null"):
        assert tail(device, os.stat(device).st_uid) == []


@as_root
def test_the_log_of_somebody_else_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "theirs\n")
    os.chown(path, 65534, 65534)
    assert tail(path, me()) == []
    assert tail(path, 65534) == ["theirs"]


def test_another_uid_than_asked_for_is_not_read(tmp_path: Path) -> None:
    assert tail(write(tmp_path, "mine\n"), me() + 1) == []


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.log"
    with path.open("wb") as file:
        file.seek(1 << 40)  # a terabyte, without a block of it on the disk
        file.write(b"\n" + b"last line\n")
    assert tail(str(path), me())[-1] == "last line"


def test_a_huge_line_is_cut(tmp_path: Path) -> None:
    (line,) = tail(write(tmp_path, "x" * (MAX_BYTES * 3)), me())
    assert line == "x" * 500


def test_colours_and_other_commands_to_a_terminal_are_taken_out(tmp_path: Path) -> None:
    path = write(tmp_path, b"\x1b[31mred\x1b[0m \x07\x00 \xff\xfe \xe2\x80\xae\n")
    (line,) = tail(path, me())
    assert line.isprintable()
    assert "[31mred" in line


@given(st.binary(max_size=600), st.integers(1, 30))
def test_any_bytes_at_all_become_printable_lines(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, lines: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    told = tail(write(folder, data), me(), lines)
    assert len(told) <= lines
    for line in told:
        assert line.replace("\t", "").isprintable()
        assert 1 <= len(line) <= 500
        line.encode()


def test_no_file_is_left_open(tmp_path: Path) -> None:
    path = write(tmp_path, "x\n")
    (tmp_path / "folder.log").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        tail(path, me())
        tail(path, me() + 1)
        tail(str(tmp_path / "folder.log"), me())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_is_removed_and_one_that_is_gone_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, "x\n")
    remove(path)
    remove(path)
    assert not Path(path).exists()


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    target = write(tmp_path, "keep\n", "keep")
    (tmp_path / "s.log").symlink_to(target)
    remove(str(tmp_path / "s.log"))
    assert Path(target).read_text(encoding="utf-8") == "keep\n"


def test_a_folder_in_the_place_of_a_log_stops_no_removal(tmp_path: Path) -> None:
    # Anybody may put one there; an error here would leave the session's owner with a server that never ends.
    (tmp_path / "s.log").mkdir()
    remove(str(tmp_path / "s.log"))


def aged(folder: Path, name: str, days: float, now: float) -> Path:
    path = Path(write(folder, "x\n", name))
    os.utime(path, (now - days * DAY, now - days * DAY))
    return path


def test_old_logs_are_swept_and_young_ones_and_other_files_stay(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    old = [aged(tmp_path, f"old{number}.log", 14.01 + number, now) for number in range(3)]
    kept = [aged(tmp_path, "young.log", 13.99, now), aged(tmp_path, "old.txt", 400, now)]
    assert sweep(str(tmp_path), now) == 3
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_an_old_link_is_swept_and_its_target_stays(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    target = aged(tmp_path, "target", 0, now)
    link = tmp_path / "old.log"
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    assert sweep(str(tmp_path), now) == 1
    assert target.exists()
    assert not link.is_symlink()


def test_a_folder_that_somebody_put_among_the_logs_stops_no_sweep(tmp_path: Path) -> None:
    # The folder of logs is open for adding: one `mkdir old.log` must not keep everybody's logs for ever.
    now = 1_800_000_000.0
    (tmp_path / "a.log").mkdir()
    (tmp_path / "a.log" / "full").touch()
    os.utime(tmp_path / "a.log", (0, 0))
    old = aged(tmp_path, "z.log", 20, now)
    assert sweep(str(tmp_path), now) >= 1
    assert not old.exists()


def test_sweeping_a_folder_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sweep(str(tmp_path / "none"), 0)


@as_root
def test_the_folder_of_logs_takes_a_log_of_the_person_and_shows_nobody_elses(open_folder: Path) -> None:
    """What mode 3733 promises: people add files and list none; the owner of the folder reads and removes them."""
    logs = open_folder / "logs"
    logs.mkdir()
    os.chown(logs, 4243, 4243)
    logs.chmod(0o3733)
    path = logs / "s.log"

    def as_account(uid: int, command: str) -> int:
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", command]
        return subprocess.run(become, capture_output=True, check=False).returncode

    assert as_account(4242, f"umask 027; echo mine > {path}") == 0
    assert as_account(4242, f"ls {logs}") != 0
    assert as_account(4244, f"cat {path}") != 0
    assert as_account(4244, f"rm -f {path}") != 0
    assert as_account(4243, f"cat {path}") == 0
    assert tail(str(path), 4242) == ["mine"]
    assert as_account(4243, f"rm {path}") == 0


def test_the_bounds_are_small_enough_for_a_page() -> None:
    assert MAX_BYTES <= 64 * 1024
    assert sessionlog.KEPT_DAYS >= 1
