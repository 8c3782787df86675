from __future__ import annotations

from pathlib import Path

import pytest

from labeltui import config
from labeltui.errors import UsageError


def write(directory: Path, text: str) -> Path:
    file = directory / "config.toml"
    file.write_text(text)
    return file


def test_no_file_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = config.load()
    assert settings.path is None
    assert settings.train.after == 20
    assert settings.reviewer  # the login name


def test_settings_are_read(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '[review]\nreviewer = "ada"\nmax_kbps = 64\n[train]\nafter = 5\n'
        '[keys]\nkeep = "y"\n"class.search" = ["/", "f"]\n',
    )
    settings = config.load(file)
    assert settings.reviewer == "ada"
    assert settings.review.max_kbps == 64
    assert settings.train.after == 5
    assert settings.keys == {"keep": ("y",), "class.search": ("/", "f")}


def test_all_faults_come_at_once_with_their_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "# mine\n[review]\ngraphics = 'sixle'\nthem = 'dark'\n\n"
        "[train]\nafter = -1\nlauncher = 3\n[tarin]\nx = 1\n[keys]\nkeep = 7\n",
    )
    with pytest.raises(UsageError) as caught:
        config.load(file)
    got = caught.value.got
    for line, word in [
        (3, "graphics"),
        (4, "did you mean theme"),
        (7, "after"),
        (8, "launcher"),
        (9, "train"),
        (12, "keep"),
    ]:
        assert any(f"line {line}:" in part and word in part for part in got.splitlines()), (line, word, got)


@pytest.mark.parametrize("text", ["[review\n", "a = = 2\n"])
def test_broken_toml_names_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="line 1"):
        config.load(write(tmp_path, text))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must exist"):
        config.load(tmp_path / "none.toml")


def test_section_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a section"):
        config.load(write(tmp_path, "train = 3\n"))
