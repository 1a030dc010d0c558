"""What all commands share: options, advice after an interruption, and printed seeds."""

from drl_density.cli import main


def test_other_commands_have_nothing_to_resume(run, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("drl_density.cli.rows.Density.load", interrupted)
    assert main(["sample", str(run)]) == 130
    assert "--resume" not in capsys.readouterr().err
