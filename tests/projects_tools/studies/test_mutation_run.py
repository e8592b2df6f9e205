"""The mutation run on a package of one function, and what it finds in single lines."""

import pytest
from studies import mutation_run
from studies.mutations import find_mutations, sample_mutations

CODE = '''"""A text with 1 + 1."""


def area(height: int, width: int = 3) -> int:
    """Says 2 * 3."""
    if height < 0:
        raise ValueError("less than" + " nothing")
    return height * width
'''
TEST = """from toy_package.shapes.plane import area


def test_area():
    assert area(2, 5) == 10
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A checkout of one folder, in the place of this one."""
    monkeypatch.setattr(mutation_run, "ROOT", tmp_path)
    monkeypatch.setattr(mutation_run, "PACKAGE", "toy_package")
    monkeypatch.setattr(mutation_run, "_SHARED", ("pytest",))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they would take seconds to load
    shapes, tests = tmp_path / "toy_package" / "shapes", tmp_path / "tests" / "shapes"
    tests.mkdir(parents=True)
    shapes.mkdir(parents=True)
    (tmp_path / "toy_package" / "__init__.py").touch()
    (shapes / "__init__.py").touch()
    (shapes / "plane.py").write_text(CODE)
    (tests / "test_shapes_of_the_toy.py").write_text(TEST)
    return tmp_path


def test_faults_are_found_or_survive_and_the_table_says_so(toy, capsys):
    output = toy / "table.md"
    arguments = ["--count", "9", "--workers", "2", "--output", str(output)]
    assert mutation_run.main(arguments) == 1
    text = output.read_text()
    assert text.startswith("3 of 3 mutations run: 1 survived.")
    rows = [line for line in text.splitlines() if "shapes/plane.py:" in line]
    by_change = {tuple(row.split("|")[3:6]): row for row in rows}
    product = by_change[" arithmetic ", " `height * width` ", " `(height / width)` "]
    assert "| caught | shapes/test_shapes_of_the_toy.py::test_area |" in product
    assert "caught" in by_change[" direction ", " `height < 0` ", " `(height > 0)` "]
    assert "SURVIVED" in by_change[" constant ", " `0` ", " `1` "]
    assert (toy / "toy_package/shapes/plane.py").read_text() == CODE, "the checkout stays as it was"


def test_the_tests_must_pass_without_a_fault(toy):
    (toy / "tests/shapes/test_shapes_of_the_toy.py").write_text(
        "def test_it():\n    assert False\n"
    )
    with pytest.raises(ValueError, match="without a fault.*test_it"):
        mutation_run.main(["--output", str(toy / "table.md")])
    assert not (toy / "table.md").exists()


def test_what_runs_for_too_long_is_stopped(toy, tmp_path_factory):
    (toy / "tests/shapes/test_shapes_of_the_toy.py").write_text(
        "import time\n\n\ndef test_it():\n    time.sleep(600)\n"
    )
    copies = mutation_run.make_copies(tmp_path_factory.mktemp("copies"), 1)
    results = {}
    job = mutation_run.Job(("tests/shapes",), None, 0.5)
    mutation_run.run_jobs([job], copies, results.__setitem__)
    assert results[0].outcome == "caught (time)" and results[0].seconds < 60


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = a + b", {"arithmetic": ["(a - b)"]}),
        ("y = -x", {"sign": ["(x)"]}),
        ("y = x[~padding]", {"mask": ["(padding)"]}),
        ("y = x.masked_fill(m, 0.0)", {"mask": ["(x)"], "axes": ["(x.masked_fill(0.0, m))"]}),
        ("y = torch.where(m, a, b)", {"mask": ["(torch.where(m, b, a))"]}),
        ("y = x.detach()", {"detach": ["(x)"]}),
        ("height, width = size", {"axes": ["width, height"]}),
        ("y = x.view([h, w, 4])", {"axes": ["[w, h, 4]"]}),
        ("y = x.sum(dim=-1)", {"dim": ["(x.sum(dim=-2))"], "extreme": ["(x.mean(dim=-1))"]}),
        ("y = min(a, b)", {"extreme": ["(max(a, b))"], "axes": ["(min(b, a))"]}),
        ("y = a and not b", {"condition": ["(a or not b)", "(b)"]}),
        ("y[a] = b", {"statement": ["pass"]}),
        ("y += b", {"arithmetic": ["y -= b"]}),
        ("y = f(True)", {"flag": ["False"]}),
        ("y = 0.5", {"constant": ["1.0"]}),
        ("y: Optional[a | b] = c", {}),
        ("y = isinstance(x, A | B)", {}),
        ("logger.warning('%d', 1 + 2)", {}),
        ("__all__ = ['a', 'b']", {}),
        ("def f(x=1, *, y=2): pass", {}),
        ("class A(B, gc=False): pass", {}),
        ("y = f(a, strict=True)", {}),
    ],
)
def test_changes_of_a_line(tmp_path, line, expected):
    path = tmp_path / "module.py"
    path.write_text(line + "\n")
    found = {}
    for mutation in find_mutations(tmp_path, path):
        if mutation.kind != "constant" or "0.5" in line:
            found.setdefault(mutation.kind, []).append(mutation.after)
    assert found == expected


def test_places_are_counted_in_bytes_and_over_lines(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("name = 'größe'\ny = f('ä', -x,\n      b)\n")
    [sign] = [m for m in find_mutations(tmp_path, path) if m.kind == "sign"]
    assert (sign.line, sign.before) == (2, "-x")
    assert sign.apply(path.read_text()) == "name = 'größe'\ny = f('ä', (x),\n      b)\n"


def test_the_draw_is_the_same_for_a_seed_and_repeats_no_place(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("".join(f"y = a{i} + b{i} < c{i}\n" for i in range(20)))
    found = {"folder": find_mutations(tmp_path, path)}
    first, again, other = (
        sample_mutations(tmp_path, found, {"folder": 12}, seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len({(m.start, m.end) for m in first}) == 12


def test_every_folder_gets_its_share_and_at_least_one():
    quotas = mutation_run.share_out({"a": 600.0, "b": 290.0, "c": 5.0}, 10)
    assert quotas == {"a": 6, "b": 3, "c": 1}
