"""How a command ends whose target cannot be asked."""

from __future__ import annotations

import pytest

from pipeline.cli.main import main
from pipeline.cli.measured import asking, show_report
from pipeline.errors import ClientMisuse, ConfigError, InvalidRequest, Unavailable
from pipeline.load.report import Report
from pipeline.load.tally import Failure, Tally


@pytest.mark.parametrize("error", [Unavailable("it is gone"), ClientMisuse("it is closed")])
def test_a_target_that_is_not_there_ends_the_program_with_its_reason(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, asking():
        raise error
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {error}\n"


def test_inputs_that_do_not_fit_are_a_wrong_command_line() -> None:
    with pytest.raises(ConfigError, match="no such input"), asking():
        raise InvalidRequest("no such input")


@pytest.mark.parametrize("command", [("client", "sync"), ("client", "async"), ("siege",)])
@pytest.mark.parametrize("deadline_ms", ["0", "-1", "1e99", "nan"])
def test_a_deadline_that_no_request_can_have_is_a_wrong_command_line(
    command: tuple[str, ...], deadline_ms: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "none", "--deadline_ms", deadline_ms])
    assert ended.value.code == 2
    found = float(deadline_ms)
    expected = f"--deadline-ms: expected a number of milliseconds above 0 and at most 86400000, found {found}\n"
    assert capsys.readouterr().err == expected


def test_percentiles_of_no_answer_are_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.went(0.0, 0.0, 0.0)
    tally.came(0.0, 0.0, 0.1, Failure("BadInput", "no picture"))
    show_report(Report("resnet", "client sync", "image", 1, 1, 0.1, tally), as_json=False)
    (latency,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("latency"))
    assert latency.split()[1:6] == ["-"] * 5
