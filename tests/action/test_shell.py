"""Action's shell: what it reads besides scores, and how it takes a change."""

import logging
from pathlib import Path

import pytest

from services import metrics
from services.action.__main__ import PolicyFile


def loads(outcome: str) -> float:
    return float(metrics.POLICY_LOADS.labels(outcome)._value.get())


def test_a_changed_policy_is_taken_and_a_wrong_one_refused_while_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "policy.toml"
    path.write_text("[default]\nthreshold = 0.5\n")
    file, taken, refused = PolicyFile(path), loads("loaded"), loads("refused")
    file.refresh()
    assert (file.policy.default.threshold, loads("loaded")) == (0.5, taken)
    path.write_text("[default]\nthreshold = 0.75\n")
    file.refresh()
    assert (file.policy.default.threshold, loads("loaded")) == (0.75, taken + 1)
    path.write_text("[default]\nthreshold = 75\n")
    file.refresh()
    path.unlink()
    file.refresh()
    assert (file.policy.default.threshold, loads("refused")) == (0.75, refused + 2)
    told = [record.fields for record in caplog.records if record.msg == "policy_refused"]  # type: ignore[attr-defined]
    assert [fields["kept"] for fields in told] == [file.policy.version] * 2
    assert f"{path}:2: default.threshold: 75" in told[0]["why"]
