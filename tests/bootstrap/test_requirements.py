"""Requirement texts: which source counts, and what real lines mean; pip's own parser is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pip._internal.req.req_file import get_line_parser, preprocess

from bootstrap.environment import recipe, requirements
from bootstrap.environment.lines import logical, mend, parse
from bootstrap.environment.options import Options
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Checkout
from clearml_api.models import Script

CORPUS_FOLDER = Path(__file__).parent / "freezes"
CORPUS = sorted(CORPUS_FOLDER.glob("*.txt"))
USUAL = Options()
COMMIT = "a" * 40
BOTH = "requirements.txt and sub/requirements.txt"
SDK_LINES = "attrs == 23.1.0\nclearml == 1.13.2\nmatplotlib == 3.8.2\nnumpy == 1.26.2\nscikit_learn == 1.3.2"
SDK = (CORPUS_FOLDER / "sdk-section.txt").read_text()


@pytest.mark.parametrize(
    ("own", "files", "expected", "source"),
    [
        ({"pip": "six==1.16.0\n# Python 3.11\n\n"}, {}, "six==1.16.0", "task"),
        ({"pip": SDK}, {}, SDK_LINES, "task"),
        ({"pip": ["a", "b"]}, {}, "a\nb", "task"),
        ({"pip": ""}, {"requirements.txt": "x"}, "x", "requirements.txt"),
        ({"pip": "# nothing"}, {"requirements.txt": "x"}, "", "task"),
        ({}, {"requirements.txt": "x\n"}, "x", "requirements.txt"),
        ({}, {"sub/requirements.txt": "y\n", "requirements.txt": "x\n"}, "x\ny", BOTH),
        ({}, {}, "", "none"),
        ({"pip": "-r more.txt\nz"}, {"more.txt": "-r s/deep.txt\nm # why", "s/deep.txt": "d"}, "d\nm # why\nz", "task"),
        ({}, {"requirements.txt": "\ufeffx\r\ny\r\n"}, "x\ny", "requirements.txt"),
    ],
)  # fmt: skip
def test_requirements_come_in_clearmls_order(tmp_path, own, files, expected, source) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folder = "sub" if "sub/requirements.txt" in files else ""
    script = Script(repository="r", requirements=own, working_dir=folder, entry_point="main.py")
    found = requirements.collect(script, lambda: Checkout(tmp_path.resolve(), "c"), [].append)
    assert (found.text, found.source) == (expected, source)


def test_the_operator_may_prefer_the_repository_or_the_original(tmp_path) -> None:
    (tmp_path / "requirements.txt").write_text("repo")
    script = Script(repository="r", requirements={"pip": "frozen==1", "org_pip": ["wanted"]})

    def found(options: Options) -> str:
        return requirements.collect(script, lambda: Checkout(tmp_path), [].append, options).text

    assert found(Options()) == "frozen==1"
    assert found(Options(force_repository=True)) == "repo"
    assert found(Options(force_original=True)) == "wanted"


def test_lock_files_win_only_when_asked_and_stand_in_when_nothing_else_is_there(tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname='x'\ndependencies=['six']\n")
    (tmp_path / "uv.lock").write_text("version = 1")

    def source(options: Options, own: dict[str, str]) -> str:
        script = Script(repository="r", requirements=own)
        return requirements.collect(script, lambda: Checkout(tmp_path), [].append, options).source

    assert source(Options(lock="uv"), {"pip": "a"}) == "uv.lock"
    assert source(Options(), {"pip": "a"}) == "task"
    assert source(Options(), {}) == "uv.lock"
    (tmp_path / "uv.lock").unlink()
    assert source(Options(lock="uv"), {"pip": "a"}) == "task"
    assert source(Options(), {}) == "pyproject.toml"


@pytest.mark.parametrize(
    ("repository", "own"),
    [("", {"pip": "six\nIPython==8.0"}), ("", {}), ("r", {"pip": "six\nIPython==8.0"}), ("r", {})],
)
def test_a_notebook_and_a_forced_init_bring_what_they_need_whatever_the_source(tmp_path, repository, own) -> None:
    (tmp_path / "requirements.txt").write_text("six\nIPython==8.0\n")
    extra = ("clearml", "nbconvert", "ipython")
    script = Script(repository=repository, requirements=own, entry_point="a.ipynb")
    found = requirements.collect(script, lambda: Checkout(tmp_path), [].append, USUAL, extra).text
    named = "six\nIPython==8.0" if repository or own else "ipython"
    assert found == f"clearml\nnbconvert\n{named}"


def test_only_lines_that_need_the_checkout_wait_for_it(tmp_path) -> None:
    def never() -> Checkout:
        raise AssertionError("waited for the repository")

    free = "six\n-e git+https://example.org/x.git#egg=x\na @ https://example.org/a/b.whl\n--index-url https://e.org/x"
    requirements.collect(Script(requirements={"pip": free}), never, [].append)
    for line in ("-e .", ".", ".[dev]", "./pkg", "../x", "-r more.txt", "-cmore.txt", "wheels/a.whl", "--editable=pkg"):
        assert requirements.needs_checkout(f"six\n{line}\n"), line


@pytest.mark.parametrize("line", ["-r missing.txt", "-r ../outside.txt", "-c /etc/hostname"])
def test_an_included_file_that_is_not_in_the_repository_is_named(tmp_path, line) -> None:
    (tmp_path / "outside.txt").write_text("x")
    (tmp_path / "repo").mkdir()
    script = Script(requirements={"pip": f"six\n{line}"})
    with pytest.raises(EnvironmentBuildError, match=line.split()[1].replace(".", r"\.")):
        requirements.collect(script, lambda: Checkout(tmp_path / "repo"), [].append)


def test_a_changed_package_of_the_repository_is_another_key(tmp_path) -> None:
    script = Script(requirements={"pip": "-e ."})
    (tmp_path / "setup.py").write_text("one")
    one = requirements.collect(script, lambda: Checkout(tmp_path, "c"), [].append)
    (tmp_path / "setup.py").write_text("two")
    two = requirements.collect(script, lambda: Checkout(tmp_path, "c"), [].append)
    assert one.key != two.key


@pytest.mark.parametrize(
    ("line", "becomes", "noted"),
    [
        ("numpy @ file:///croot/numpy_and_numpy_base_1/work", "numpy", True),
        ("a @ file:///home/someone/a-1.2.0-py3-none-any.whl", "a==1.2.0", True),
        ("mine @ file:///home/me/mine ; python_version > '3'", "mine ; python_version > '3'", True),
        ("-e /home/someone/project", None, True),
        ("/home/someone/a.whl", None, True),
        ("-e git+https://example.org/x.git@" + COMMIT + "#egg=x", "x @ git+https://example.org/x.git@" + COMMIT, False),
        ("-e git+ssh://git@h/x.git#egg=X_y&subdirectory=p", "x-y @ git+ssh://git@h/x.git#subdirectory=p", False),
        ("torch==2.1.0+cu121", "torch==2.1.0", True),
        ("torchvision == 0.16.0+cpu ; os_name == 'posix'", "torchvision == 0.16.0 ; os_name == 'posix'", True),
        ("jaxlib==0.4.13+cuda11.cudnn86", "jaxlib==0.4.13+cuda11.cudnn86", False),
        ("pkg-resources==0.0.0", None, True),
        ("python-apt==2.4.0+ubuntu1", None, True),
        ("six==1.16.0 --hash=sha256:00", "six==1.16.0 --hash=sha256:00", False),
        ("--extra-index-url https://example.org/simple", "--extra-index-url https://example.org/simple", False),
    ],
)  # fmt: skip
def test_lines_of_another_machine_are_mended_and_told(line, becomes, noted) -> None:
    found = mend([line], exists=lambda _: False, keep_builds=False)
    assert [one.text for one in found.lines] == ([becomes] if becomes else [])
    assert bool(found.notes) == noted


def test_of_clashing_pins_the_later_is_meant_and_markers_stand_together() -> None:
    text = "Foo_Bar==1\nnumpy==1.26 ; python_version<'3.9'\nnumpy==2.0 ; python_version>='3.9'\nfoo-bar==2\nsix\nsix"
    found = mend(logical(text), exists=lambda _: False, keep_builds=False)
    assert [one.text for one in found.lines] == [
        "numpy==1.26 ; python_version<'3.9'", "numpy==2.0 ; python_version>='3.9'", "foo-bar==2", "six",
    ]  # fmt: skip
    assert found.notes == ("left out Foo_Bar==1: foo-bar==2 stands below it",)


@pytest.mark.parametrize(
    ("line", "pinned"),
    [
        ("a==1.0", True), ("a==1.*", False), ("a>=1", False), ("a", False), ("a==1,!=2", False), ("a===1", True),
        ("a[x]==1.0 ; python_version>'3'", True), ("a==1 --hash=sha256:0", True), ("a ~= 1.0", False),
        ("a @ https://e.org/a-1.0-py3-none-any.whl", True), ("a @ git+https://e.org/a", False),
        ("a @ git+https://e.org/a@main", False), ("a @ git+https://e.org/a@" + "f" * 40, True),
        ("git+https://e.org/a@" + "f" * 40 + "#egg=a", True), ("https://e.org/a.tar.gz", True), ("--pre", True),
    ],
)  # fmt: skip
def test_what_is_pinned(line, pinned) -> None:
    assert parse(line).pinned == pinned


@pytest.mark.parametrize("file", CORPUS, ids=lambda path: path.stem)
def test_real_freezes_are_read_as_pip_reads_them(file) -> None:
    text = file.read_text()
    line_of = get_line_parser(None)
    expected = [content for _, content in preprocess(text)]
    ours = [parse(line) for line in logical(text)]
    assert [line.text.replace(" ", "") for line in ours] == [content.replace(" ", "") for content in expected]
    for mine, content in zip(ours, expected, strict=True):
        words, options = line_of(content)
        if mine.option and mine.option != "-e":
            assert not words
            continue
        if options.editables:
            assert mine.option == "-e" and mine.value == options.editables[0]
            continue
        try:
            wanted = Requirement(words)
        except InvalidRequirement:
            assert not mine.name, content
            continue
        assert mine.name == canonicalize_name(wanted.name)
        exact = [one for one in wanted.specifier if one.operator in ("==", "===") and "*" not in one.version]
        if not wanted.url:
            assert mine.pinned == (len(wanted.specifier) == 1 and bool(exact)), content


def test_a_corpus_there_is() -> None:
    assert len(CORPUS) >= 6


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}(rc1|\.post1|\+cu121)?", fullmatch=True)
specifiers = st.lists(st.tuples(st.sampled_from(["==", ">=", "<", "!=", "<="]), versions), max_size=3)
markers = st.sampled_from(["", " ; python_version >= '3.8'", '; sys_platform == "linux"'])
extras = st.sampled_from(["", "[a]", "[a, b-c]"])


@given(names, extras, specifiers, markers, st.sampled_from(["", " ", "  # a comment"]))
def test_any_named_requirement_is_read_as_packaging_reads_it(name, extra, specifier, marker, tail) -> None:
    text = f"{name}{extra}{','.join(a + b for a, b in specifier)}{marker}"
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return
    (line,) = logical(text + tail)
    found = parse(line)
    assert found.name == canonicalize_name(wanted.name)
    exact = len(wanted.specifier) == 1 and next(iter(wanted.specifier)).operator == "=="
    assert found.pinned == exact


@given(st.text(max_size=200))
def test_no_text_at_all_breaks_the_reading(text) -> None:
    made = recipe.write(text, Options(), root=None)
    for step in made.steps:
        assert all("\n" not in line for line in step.lines)


def test_priority_and_post_packages_keep_their_order() -> None:
    options = Options(priority=("numpy",), post=("horovod",), post_optional=("apex",), priority_optional=("pygobject",))
    made = recipe.write("--pre\nhorovod==1\nnumpy==1\napex\nPyGObject\nsix", options, root=None)
    assert [(step.lines, step.optional) for step in made.steps] == [
        (("--pre", "numpy==1"), False),
        (("--pre", "PyGObject"), True),
        (("--pre", "numpy==1", "six"), False),
        (("--pre", "horovod==1"), False),
        (("--pre", "apex"), True),
    ]


def test_torch_goes_by_the_driver_unless_an_index_is_named() -> None:
    options = Options(torch="auto")
    assert recipe.write("torch==2.1.0+cu121", options, root=None).torch == "auto"
    assert recipe.write("torch==2.1.0+cu121", options, root=None).text == "torch==2.1.0"
    named = recipe.write("--extra-index-url https://example.org/cu121\ntorch==2.1.0+cu121", options, root=None)
    assert (named.torch, named.steps[0].lines[1]) == ("", "torch==2.1.0+cu121")
    assert recipe.write("six", options, root=None).torch == ""
