"""What the code names, the documents name."""

from aitp_cp.settings import Settings
from tests.support.rendered import ROOT, rendered


def test_generated_files_are_up_to_date() -> None:
    for path, text in rendered().items():
        assert path.read_text() == text, f"{path.name}: run `make docs`"


def test_every_setting_has_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_every_dependency_is_justified() -> None:
    page = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text()
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [", 1)[1].split("\n]", 1)[0]
    names = [line.strip().strip('",').split(">=")[0] for line in block.splitlines() if line.strip()]
    assert [name for name in names if name not in page] == []
