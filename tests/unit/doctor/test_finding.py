from pmx.doctor.finding import GUARANTEES, Finding


def test_every_row_fits_into_a_terminal_of_80_columns() -> None:
    frame = len("│ ✓ │ ") + len(" │ ") + len(" │")
    assert max(map(len, GUARANTEES)) + max(map(len, GUARANTEES.values())) + frame <= 80


def test_only_what_was_tried_holds() -> None:
    assert Finding("node").tried
    assert not Finding("node", why="not tried: no node here").tried
