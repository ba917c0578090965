"""``studiolo.models``: Hugging Face's own library finds what is at hand, offline; what is missing is told at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shelves import REVISION, Shelves, put_model, shelves_in

from spawners import singleuser
from studiolo import modelcache, models
from studiolo.errors import CardError, NotAtHand, NotKept

CONFIG = json.dumps({"model_type": "bert", "hidden_size": 8}).encode()
README = b"---\nlicense: apache-2.0\npipeline_tag: text-generation\ntags:\n- x\n---\n# A model\nlicense: not-this\n"
FILES = {"config.json": CONFIG, "README.md": README, "model.safetensors": b"weights"}


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelves:
    return shelves_in(tmp_path, monkeypatch)


def by_hugging_face(shelves: Shelves, name: str, *, offline: bool = True) -> str:
    """What ``huggingface_hub`` says in a process of its own, with the environment that a job's script gives it."""
    pytest.importorskip("huggingface_hub")
    code = (
        "import sys\nfrom huggingface_hub import snapshot_download, hf_hub_download\n"
        "try: print(open(hf_hub_download(sys.argv[1], 'config.json')).read(), snapshot_download(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(shelves.home / modelcache.OVERLAY),
        "HF_HUB_OFFLINE": str(int(offline)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, name], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_what_is_at_hand_with_licence_and_size(shelves: Shelves) -> None:
    put_model(shelves.models, "org/small", FILES)
    (shelves.models / "README").mkdir()
    (shelves.models / ".locks").mkdir()
    (card,) = models.list()
    assert (card.name, card.licence, card.description) == ("org/small", "apache-2.0", "text generation")
    assert card.size == sum(map(len, FILES.values()))
    assert card.source == "https://huggingface.co/org/small"
    assert card.version == REVISION
    for text in (repr(card), card._repr_html_()):
        assert "apache-2.0" in text
    assert models.path("org/small") == shelves.models / "models--org--small" / "snapshots" / REVISION


def test_the_librarys_own_calls_find_what_the_site_has(shelves: Shelves) -> None:
    put_model(shelves.models, "org/small", FILES)
    for path, folders, files in os.walk(shelves.models):
        for name in (*folders, *files):
            if not os.path.islink(os.path.join(path, name)):
                os.chmod(os.path.join(path, name), 0o555)
    models.get("org/small")
    assert '"model_type": "bert"' in by_hugging_face(shelves, "org/small")


def test_the_librarys_own_calls_say_at_once_what_is_missing(shelves: Shelves) -> None:
    put_model(shelves.models, "org/small", FILES)
    models.get("org/small")
    assert by_hugging_face(shelves, "org/other").strip() == "LocalEntryNotFoundError"


def test_what_is_missing_is_told_with_what_there_is(shelves: Shelves) -> None:
    put_model(shelves.models, "org/small", FILES)
    for ask in (models.card, models.path, models.get):
        with pytest.raises(NotAtHand) as missing:
            ask("org/smal")
        assert "Did you mean org/small?" in str(missing.value)
        assert "support@example.org" in str(missing.value)
        assert "studiolo.models.add" in str(missing.value)


def test_the_site_comes_first_then_what_one_has_downloaded(shelves: Shelves) -> None:
    put_model(shelves.own_models, "org/small", {"config.json": b"half a download"}, revision="b" * 40)
    put_model(shelves.own_models, "org/own", FILES)
    assert models.card("org/small").place.of == "me"
    put_model(shelves.models, "org/small", FILES)
    assert models.get("org/small").is_relative_to(shelves.models)
    assert '"model_type": "bert"' in by_hugging_face(shelves, "org/small")
    assert models.path("org/own").is_relative_to(shelves.own_models)
    assert '"model_type": "bert"' in by_hugging_face(shelves, "org/own")


def test_a_session_links_all_models_when_it_starts(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(shelves.models, "org/small", FILES)
    overlay = shelves.home / modelcache.OVERLAY
    monkeypatch.setenv("HF_HUB_CACHE", str(overlay))
    monkeypatch.setattr(Path, "home", lambda: shelves.home)
    singleuser.find_models(f"{shelves.models}{os.pathsep}{shelves.top}/groups/{{group}}/models")
    assert [path.name for path in overlay.iterdir()] == ["models--org--small"]
    assert '"model_type": "bert"' in by_hugging_face(shelves, "org/small")


def test_a_session_whose_environment_has_another_cache_leaves_it_alone(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_model(shelves.models, "org/small", FILES)
    monkeypatch.setenv("HF_HUB_CACHE", str(shelves.top / "elsewhere"))
    singleuser.find_models(str(shelves.models))
    assert not (shelves.top / "elsewhere").exists()


def test_a_session_whose_home_is_full_starts_and_says_so(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_model(shelves.models, "org/small", FILES)
    monkeypatch.setattr(Path, "home", lambda: shelves.home)
    monkeypatch.setenv("HF_HUB_CACHE", str(shelves.home / modelcache.OVERLAY))

    def full(*_given: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "symlink", full)
    singleuser.find_models(str(shelves.models))
    assert "Disk quota exceeded" in capsys.readouterr().err
    with pytest.raises(NotKept, match="make room in your home"):
        models.get("org/small")


def test_links_follow_what_the_site_has_and_downloads_stay(shelves: Shelves) -> None:
    first = put_model(shelves.models, "org/first", FILES)
    put_model(shelves.models, "org/second", FILES)
    overlay = shelves.home / modelcache.OVERLAY
    assert modelcache.fill(overlay, [shelves.models]) == 2
    put_model(overlay, "org/downloaded", FILES)
    first.rename(shelves.models / "models--org--third")
    assert modelcache.fill(overlay, [shelves.models, shelves.top / "nothing"]) == 3
    assert sorted(path.name for path in overlay.iterdir()) == [
        "models--org--downloaded",
        "models--org--second",
        "models--org--third",
    ]
    assert not (overlay / "models--org--downloaded").is_symlink()


def test_links_stay_while_the_site_can_not_be_asked(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(shelves.models, "org/small", FILES)
    overlay = shelves.home / modelcache.OVERLAY
    modelcache.fill(overlay, [shelves.models])
    listdir = os.listdir

    def stale(path: object) -> list[str]:
        if path == shelves.models:
            raise OSError(errno.ESTALE, "Stale file handle")
        return listdir(path)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "listdir", stale)
    assert modelcache.fill(overlay, [shelves.models]) == 1


def test_a_model_that_is_not_what_it_should_be_is_told_and_hides_no_other(shelves: Shelves) -> None:
    put_model(shelves.models, "org/good", FILES)
    led = put_model(shelves.models, "org/led-away", FILES)
    (led / "snapshots" / REVISION / "more.json").symlink_to("/etc/hostname")
    tricked = put_model(shelves.models, "org/tricked", FILES)
    (tricked / "refs/main").write_text("../../../..")
    unfinished = put_model(shelves.models, "org/unfinished", FILES)
    (unfinished / "refs/main").unlink()
    listing = models.list()
    assert [card.name for card in listing] == ["org/good"]
    assert len(listing.refused) == 2
    for name in ("org/led-away", "org/tricked"):
        with pytest.raises(CardError):
            models.get(name)
    with pytest.raises(NotAtHand):
        models.get("org/unfinished")


def test_a_readme_that_is_huge_or_leads_away_says_nothing(shelves: Shelves) -> None:
    for front in (
        "---\nlicense: [a, b]\n---",
        "license: mit",
        "---\nlicense: a\x1bb\n---",
        "---\n" * 5000,
        "---\nlicense: |\n  x\n---",
    ):
        assert "license" not in modelcache_front(front)


def modelcache_front(text: str) -> dict[str, str]:
    from studiolo.holdings.models_card import front_matter

    return front_matter(text)


@pytest.mark.parametrize("name", ["../x", "a/b/c", "a--b", "", "/a", "a/", "a/.b", "a..b", "x" * 97, "a b"])
def test_names_that_are_none_are_not_taken_for_folders(shelves: Shelves, name: str) -> None:
    assert not modelcache.is_name(name)
    (shelves.home / "config.json").write_bytes(CONFIG)
    with pytest.raises(NotKept, match="name"):
        models.add(shelves.home, name=name, licence="internal")


def test_an_own_model_is_added_in_the_librarys_layout(shelves: Shelves) -> None:
    source = shelves.home / "trained"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content)
    card = models.add(source, name="ada/sales-bert", licence="internal", description="Says what sells.")
    assert '"model_type": "bert"' in by_hugging_face(shelves, "ada/sales-bert")
    assert models.card("ada/sales-bert") == card
    assert (card.licence, card.description) == ("internal", "Says what sells.")
    assert card.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(NotKept, match="me:ada/sales-bert is there already"):
        models.add(source, name="ada/sales-bert", licence="internal")
    models.remove("ada/sales-bert")
    assert not card.folder.exists()
    assert by_hugging_face(shelves, "ada/sales-bert").strip() == "LocalEntryNotFoundError"


def test_a_downloaded_model_can_be_added_under_another_name(shelves: Shelves) -> None:
    folder = put_model(shelves.top / "download", "org/small", FILES)
    models.add(folder, name="team/small", licence="apache-2.0")
    assert sorted(path.name for path in models.path("team/small").iterdir()) == sorted(FILES)


def test_weights_that_are_pickles_are_not_added(shelves: Shelves) -> None:
    import pickle

    source = shelves.home / "trained"
    source.mkdir()
    (source / "config.json").write_bytes(CONFIG)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(NotKept, match="no pickles"):
        models.add(source, name="ada/sales-bert", licence="internal")
    with pytest.raises(NotKept, match="a folder with all files"):
        models.add(source / "config.json", name="ada/sales-bert", licence="internal")
    assert not models.list()


@pytest.mark.parametrize("file", ["pytorch_model.bin", "old.pt"])
def test_weights_that_are_pickles_are_warned_of_however_they_came(shelves: Shelves, file: str) -> None:
    import pickle

    put_model(shelves.models, "org/safe", {**FILES, "other.bin": b"plain numbers"})
    put_model(shelves.models, "org/old", {"config.json": CONFIG, file: pickle.dumps({"a": 1})})
    models.get("org/safe")
    for ask in (models.path, models.get):
        with pytest.warns(UserWarning, match=f"org/old has weights that are pickles.*{file}.*use_safetensors") as told:
            assert ask("org/old").is_relative_to(shelves.models)
        assert told[0].filename == __file__, "it points at the cell that asked"


def test_a_cell_that_lacks_a_model_is_followed_by_what_there_is(shelves: Shelves) -> None:
    pytest.importorskip("huggingface_hub")
    put_model(shelves.models, "org/small", FILES)
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(shelves.home / modelcache.OVERLAY),
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(shelves.home / "ipython"),
    }

    def told(code: str) -> str:
        command = [sys.executable, "-m", "IPython", "--ext=studiolo.ipython", "--colors=NoColor", "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        return done.stdout + done.stderr

    load = "from huggingface_hub import hf_hub_download; hf_hub_download('{}', 'config.json')"
    said = told(load.format("org/smal"))
    assert "LocalEntryNotFoundError" in said
    assert "Nothing is wrong with your connection" in said
    assert "Did you mean org/small?" in said
    # It has come since the session began: from now on it is linked.
    assert "org/small is at hand: run the cell again" in told(load.format("org/small"))
    assert '"model_type": "bert"' in by_hugging_face(shelves, "org/small")
    assert "connection" not in told("open('/no/such/file')")
