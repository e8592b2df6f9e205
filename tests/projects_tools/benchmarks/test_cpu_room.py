import pytest
import torch
from benchmarks import cpu_room

from cqdino_d2.layers.cpu import onednn


def test_every_part_is_switched_off_and_on_again():
    for part, switches in cpu_room.SWITCHES.items():
        before = [getattr(owner, name) for owner, name, _ in switches]
        with cpu_room.switched_off((part,)):
            for owner, name, plain in switches:
                assert getattr(owner, name) is plain, part
        assert [getattr(owner, name) for owner, name, _ in switches] == before
    with cpu_room.switched_off(("linear",)):
        assert not onednn.is_for_onednn(torch.ones(600, 64), torch.ones(80, 64))


def test_the_table_has_a_column_for_every_part(capsys):
    arguments = ["--repeats", "1", "--vocabulary", "40", "--cases", "inference, category part"]
    assert cpu_room.main(arguments) == 0
    about, _, head, _, row = capsys.readouterr().out.splitlines()
    assert torch.backends.cpu.get_cpu_capability() in about
    assert all(f"without {part}" in head for part in cpu_room.SWITCHES)
    *_, whole = (cell.strip() for cell in row.strip("|").split("|"))
    assert float(whole.removesuffix(" x")) > 0


def test_no_case_is_an_error(capsys):
    with pytest.raises(SystemExit):
        cpu_room.main(["--cases", "no such case"])
    assert "no such case" in capsys.readouterr().err
