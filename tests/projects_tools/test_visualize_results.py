"""The report as a program, its pictures and, where there is a browser, its page."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import visualize_results
from benchmarks import make_synthetic_results
from PIL import Image

from cqdino_d2.reports.page import script_json

ROOT = Path(__file__).parents[2]
EVIL = "</script><script>document.title='HACKED'</script><img src=x onerror=\"document.title='H'\">"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made-up set of 200 images in plain colours; one category has an evil name."""
    made = make_synthetic_results.make_set(tmp_path_factory.mktemp("sets"), "small", seed=1)
    content = json.loads((made / "annotations.json").read_text())
    content["categories"][3]["name"] = EVIL
    rng = np.random.default_rng(0)
    for row in content["images"]:
        path = made / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple(rng.integers(60, 200, 3).tolist())
        Image.new("RGB", (row["width"], row["height"]), colour).save(path)
    (made / "annotations.json").write_text(json.dumps(content))
    return made


def arguments(folder, output, *more, images=True, tree=True):
    given = ["--annotations", folder / "annotations.json", "--results", folder / "results.json"]
    given += ["--output", output, *more]
    given += ["--images", folder] if images else []
    given += ["--category-tree", folder / "category_tree.json"] if tree else []
    return [str(one) for one in given]


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    given = arguments(folder, output, "--protocol", "v3det", "--pictures", "2")
    more = ["--category-pictures", "2", "--show-category", "category 7", "--show-category", "1"]
    assert visualize_results.main([*given, *more]) == 0
    return output


class Links(HTMLParser):
    """Collects what a page points to, its ids and its scripts."""

    def __init__(self):
        super().__init__()
        self.links, self.ids, self.tags = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key in ("src", "href"):
                self.links.append(value)
            if key == "id":
                self.ids.add(value)


def parse(page):
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


def data_of(page):
    text = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8")).group(1)
    return json.loads(text)


def test_every_link_is_relative_and_there(report):
    found = parse(report / "index.html")
    assert len([link for link in found.links if link.endswith(".jpg")]) > 30
    for link in found.links:
        if link.startswith("#"):
            assert link[1:] in found.ids, link
        else:
            assert (report / link).is_file() and not link.startswith("/"), link
    assert "://" not in (report / "index.html").read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_evaluation(report, folder):
    from cqdino_d2.annotations.v3det_tree import hierarchy_from_v3det_tree
    from cqdino_d2.evaluation import V3DetProtocol, load_ground_truth, load_results

    truth = load_ground_truth(folder / "annotations.json")
    tree = hierarchy_from_v3det_tree(folder / "category_tree.json", truth.category_ids.tolist())
    expected = V3DetProtocol(hierarchy=tree).evaluate(
        truth, load_results(folder / "results.json", truth)
    )
    text = (report / "index.html").read_text(encoding="utf-8")
    assert f"<b>{expected.figures['AP']:.1f}</b><span>AP</span>" in text
    data = data_of(report / "index.html")
    columns = {column["label"]: column["values"] for column in data["columns"]}
    measured = [ap for ap in columns["AP"] if ap is not None]
    assert np.mean(measured) == pytest.approx(expected.figures["AP"], abs=0.06)
    assert sum(columns["boxes"]) == expected.per_category.num_boxes.sum()
    assert len(data["names"]) == len(data["tree"]["parents"]) == 60
    assert {"category-8", "category-1"} <= set(data["pictured"].values())


def test_pictures_are_small_and_bounded_in_number(report):
    pictures = sorted((report / "pictures").glob("*.jpg"))
    kinds = {re.sub(r"-\d+$", "", path.stem) for path in pictures}
    assert {"worst", "best", "background", "missed", "category-8"} <= kinds
    assert len(pictures) <= 2 * (2 + 8) + 3 * 4
    for path in pictures:
        with Image.open(path) as image:
            assert max(image.size) <= 2 * 420 + 6 and image.size[0] > image.size[1]
    colours = np.asarray(Image.open(report / "pictures" / "worst-000.jpg")).reshape(-1, 3)
    assert (np.abs(colours.astype(int) - [214, 39, 40]).sum(1) < 60).any()  # an error's frame


def test_names_are_escaped(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    assert EVIL not in text and "document.title='H'" not in re.sub(r"\\u003c.*?\\u003e", "", text)
    assert data_of(report / "index.html")["names"][3] == EVIL
    assert parse(report / "index.html").tags.count("script") == 2
    assert json.loads(script_json(["</script>", "<!--", "\u2028&"])) == [
        "</script>",
        "<!--",
        "\u2028&",
    ]


def dump(page, tmp_path):
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@needs_browser
def test_a_browser_shows_tree_and_table_and_runs_no_name(report, tmp_path):
    shown = dump(report / "index.html", tmp_path)
    assert "<title>results.json on annotations.json</title>" in shown
    assert "60 of 60 categories, 60 shown" in shown
    body = shown[shown.index('id="category-table"') :]
    assert body.count("<tr>") == 61  # and the head
    assert "&lt;img src=x" in body and "<img src=x" not in shown
    tree = shown[shown.index('id="tree-root"') : shown.index('id="siblings"')]
    assert tree.count("<details>") >= 2  # the roots; what is below is made when it is opened


@needs_browser
def test_search_sorting_and_opening_in_a_browser(report, tmp_path):
    text = (report / "index.html").read_text(encoding="utf-8")
    script = """<script>
      const cells = (place) => [...document.querySelectorAll("#category-table tbody tr")].map(
        (row) => row.cells[place].textContent);
      const said = [];
      const search = document.getElementById("category-search");
      search.value = "CATEGORY 5"; search.dispatchEvent(new Event("input"));
      said.push(cells(0).filter((name) => !name.includes("category 5")).length, cells(0).length);
      search.value = ""; search.dispatchEvent(new Event("input"));
      const head = [...document.querySelectorAll("#category-table th")];
      const place = head.findIndex((th) => th.textContent === "boxes");
      head[place].click(); head[place].click();
      const boxes = cells(place).map(Number);
      said.push(boxes.every((value, i) => !i || value <= boxes[i - 1]));
      const branch = document.querySelector("#tree-root details");
      branch.open = true; branch.dispatchEvent(new Event("toggle"));
      said.push(branch.childElementCount > 1);
      document.title = said.join(" ");
    </script></body>"""
    page = report / "driven.html"
    page.write_text(text.replace("</body>", script), encoding="utf-8")
    shown = dump(page, tmp_path)
    page.unlink()
    wrong, count, sorted_down, opened = re.search("<title>(.*?)</title>", shown)[1].split()
    # a search for "category 5" also finds what lies in a branch of that name
    assert int(count) > int(wrong) >= 0 and int(count) < 60
    assert (sorted_down, opened) == ("true", "true")


def test_without_images_and_tree(folder, tmp_path):
    given = arguments(folder, tmp_path / "plain", images=False, tree=False)
    assert visualize_results.main(given) == 0
    page = tmp_path / "plain" / "index.html"
    assert data_of(page)["tree"] is None and not (page.parent / "pictures").exists()
    assert "No category tree was given" in page.read_text() and "tree-root" not in parse(page).ids


def test_an_edge_list_may_name_the_categories(folder, tmp_path):
    tree = tmp_path / "tree.txt"
    tree.write_text("things\tcategory 0\nthings\tcategory 1\n")
    given = arguments(folder, tmp_path / "out", images=False, tree=False)
    assert visualize_results.main([*given, "--category-tree", str(tree)]) == 0
    data = data_of(tmp_path / "out" / "index.html")
    assert data["names"][60:] == ["things"] and data["tree"]["categories"][60] == 2


def error_of(capsys, *given):
    assert visualize_results.main([str(one) for one in given]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    return line


def test_bad_input_is_one_line_and_code_2(folder, tmp_path, capsys):
    plain = arguments(folder, tmp_path / "out", images=False, tree=False)
    error = error_of(capsys, *plain, "--images", tmp_path / "nowhere")
    assert "no such folder of images" in error
    empty = tmp_path / "empty"
    empty.mkdir()
    error = error_of(capsys, *plain, "--images", empty)
    assert "none of" in error and "looked for" in error
    error = error_of(capsys, *plain, "--show-category", "CATEGORY 5")
    assert "no category 'CATEGORY 5'" in error and "category 50" in error
    broken = list(plain)
    broken[3] = str(tmp_path / "none.json")
    assert "no such results file" in error_of(capsys, *broken)
    for more in (["--protocol", "v3det"], ["--pictures", "-1"]):
        with pytest.raises(SystemExit):
            visualize_results.main([*plain, *more])


def test_some_missing_images_are_left_out_with_a_warning(folder, tmp_path, caplog):
    some = tmp_path / "some"
    shutil.copytree(folder, some)
    for path in sorted((some / "images").rglob("*.jpg"))[::2]:
        path.unlink()
    given = arguments(some, tmp_path / "out", "--pictures", "3", "--category-pictures", "0")
    assert visualize_results.main(given) == 0
    found = parse(tmp_path / "out" / "index.html").links
    assert all((tmp_path / "out" / link).is_file() for link in found if link.endswith(".jpg"))
    assert "no such file" in caplog.text


def test_as_a_program(folder, tmp_path):
    tool = ROOT / "projects_tools" / "visualize_results.py"
    given = arguments(folder, tmp_path / "out", "--pictures", "1", "--category-pictures", "0")
    done = subprocess.run(
        [sys.executable, str(tool), *given], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out" / "index.html")
