from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from dsedge.errors import LoadError
from dsedge.resources import data_folder
from dsedge.target import Target, cpu_features, host_isa, known_targets, load_target

BOARDS = [
    *("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-xavier-nx"),
    *("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero2"),
    *("android-arm64", "android-armv7"),
    *("pos-x86", "pos-x86-celeron", "pos-arm64", "pos-armv7"),
    *("x86-server", "t4", "a100"),
]

BASE = """
title = "A board"
family = "mine"
architecture = "aarch64"
features = ["neon"]
os = "linux"
runtimes = [{ name = "onnxruntime" }]
reach = "ssh"
"""


def board(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def refused(path: Path | str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_target(path)
    return caught.value


def test_every_shipped_board_loads() -> None:
    assert set(BOARDS) <= set(known_targets())
    targets = [load_target(name) for name in BOARDS]
    assert [target.name for target in targets] == BOARDS
    short_names = [target.default_for for target in targets if target.default_for]
    assert len(short_names) == len(set(short_names)), "two boards answer to one short name"
    assert {path.stem for path in data_folder("targets").glob("*.toml")} == set(BOARDS)


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("jetson", "jetson-orin-nano"),
        ("raspberry-pi", "raspberry-pi-5"),
        ("android", "android-arm64"),
        ("pos", "pos-x86"),
        ("x86", "x86-server"),
    ],
)
def test_a_short_name_is_a_board_and_says_so(short: str, name: str) -> None:
    target = load_target(short)
    assert (target.name, target.asked_as) == (name, short)
    assert load_target(name).asked_as is None


def test_facts_that_decide_the_contract() -> None:
    assert "dotprod" in load_target("raspberry-pi-5").features
    for name in ("raspberry-pi-4", "raspberry-pi-3", "raspberry-pi-zero2"):
        assert load_target(name).features == ("neon",)
    assert load_target("raspberry-pi-4").default_for is None, "an alias is not inherited"
    assert "vnni" in load_target("pos-x86").features and "bf16" not in load_target("pos-x86").features
    assert "bf16" in load_target("x86-server").features
    assert not {"avx2", "vnni"} & set(load_target("pos-x86-celeron").features)
    xavier = load_target("jetson-xavier-nx")
    assert xavier.accelerator and xavier.accelerator.compute_capability == "7.2"
    assert [runtime.name for runtime in load_target("pos-armv7").runtimes] == ["litert", "c"]
    assert [runtime.name for runtime in load_target("pos-x86").runtimes] == ["openvino", "onnxruntime", "litert"]


def test_a_user_file_extends_a_shipped_board_and_a_neighbour(tmp_path: Path) -> None:
    board(tmp_path, "till", 'extends = "pos-x86"\ntitle = "Till"\n[budgets]\nlatency_ms = 20\nsize_mb = 8\n')
    # Named as the shipped board that it extends: not a cycle.
    path = board(tmp_path, "pos-x86", 'extends = "pos-x86"\nmemory_mb = 4096\n')
    assert load_target(path).memory_mb == 4096
    path = board(tmp_path, "slow-till", 'extends = "till"\n[budgets]\nlatency_ms = 50\n')
    target = load_target(str(path))
    assert (target.name, target.title, target.cpu) == ("slow-till", "Till", "gracemont")
    assert (target.budgets.latency_ms, target.budgets.size_mb) == (50, 8)


def test_a_target_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_target("t4").cores = 3


def test_unknown_name_suggests_a_close_one() -> None:
    error = refused("rasberry-pi-5")
    assert error.code == "DS141"
    assert "did you mean 'raspberry-pi-5'" in str(error)
    assert refused("").code == "DS141"


def test_every_problem_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    text = (
        BASE.replace('"ssh"', '"telnet"').replace('["neon"]', '["neon", "vnni"]') + "cores = 0\nfoo = 1\nboards = 2\n"
    )
    error = refused(board(tmp_path, "bad", text))
    assert error.code == "DS142"
    for word in ("bad.toml", "5 fields", "reach", "features: vnni is no feature", "cores", "foo: unknown field"):
        assert word in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = oops", ["not valid TOML", "line 1"]),
        ("a = " + "[" * 5000, ["not valid TOML"]),
        ('extends = "raspberry-pi-6"', ["extends", "did you mean 'raspberry-pi-5'"]),
        ('extends = "../targets/t4"', ["extends", "no target"]),
        ('extends = "self"', ["extends", "no target is called 'self'"]),
        ("extends = 3\n" + BASE, ["extends", "string"]),
        ('name = "x"\n' + BASE, ["name", "named by its file"]),
        (BASE.replace("neon", "\\u0000"), ["features"]),
        (BASE.replace('{ name = "onnxruntime" }', ""), ["runtimes", "at least 1"]),
        (BASE.replace('"onnxruntime"', '"onnxruntime", version = "new"'), ["runtimes.0.version"]),
    ],
)
def test_invalid_files(tmp_path: Path, text: str, words: list[str]) -> None:
    error = refused(board(tmp_path, "self", text))
    assert error.code == "DS142"
    assert all(word in str(error) for word in ["self.toml", *words])


def test_a_cycle_is_shown(tmp_path: Path) -> None:
    board(tmp_path, "a", 'extends = "b"')
    path = board(tmp_path, "b", 'extends = "a"')
    error = refused(path)
    assert error.code == "DS142"
    assert "b -> a -> b" in str(error)


def test_unreadable_files(tmp_path: Path) -> None:
    assert "No such file" in str(refused(tmp_path / "missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b'title = "\xff"')
    assert refused(tmp_path / "latin.toml").code == "DS142"
    (tmp_path / "big.toml").write_bytes(b"#" * (2 << 20))
    assert refused("\0.toml").code == "DS142"
    assert "1 MiB" in str(refused(tmp_path / "big.toml"))


def test_isa_match() -> None:
    pi5, n97, celeron = load_target("raspberry-pi-5"), load_target("pos-x86"), load_target("pos-x86-celeron")
    zen4 = frozenset({"sse4", "avx2", "avx512", "vnni"})
    assert n97.matches("x86_64", zen4)[0], "more features than the board's do not hurt"
    assert not n97.matches("x86_64", frozenset({"sse4", "avx2"}))[0]
    assert "lacks vnni" in n97.matches("x86_64", frozenset({"sse4", "avx2"}))[1]
    matches, reason = celeron.matches("x86_64", zen4)
    assert not matches and "vnni" in reason, "int8 is not faster than float there as it is with dot products"
    assert celeron.matches("x86_64", frozenset({"sse4", "avx2"}))[0]
    assert "lacks bf16" in load_target("x86-server").matches("x86_64", zen4)[1]
    assert pi5.matches("x86_64", zen4) == (False, "this machine is x86_64, the target is aarch64")
    assert not load_target("t4").matches("x86_64", zen4)[0]
    assert load_target("t4").matches_host()[0] is False


def test_features_of_a_cpu() -> None:
    a76 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp\n"
    a53 = "processor\t: 1\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    n97 = "flags\t\t: fpu sse4_1 sse4_2 avx avx2 avx_vnni\nvmx flags\t: vnmi\n"
    assert cpu_features("aarch64", a76) == {"neon", "fp16", "dotprod"}
    assert cpu_features("aarch64", a76 + a53) == {"neon"}
    assert cpu_features("x86_64", n97) == {"sse4", "avx2", "vnni"}
    assert [cpu_features("x86_64", f"flags\t: fpu {flag}\n") for flag in ("avx512_bf16", "amx_bf16")] == [{"bf16"}] * 2
    assert cpu_features("x86_64", "") == frozenset()
    assert cpu_features("riscv64", a53) == frozenset()
    assert host_isa()[0]


def test_a_package_adds_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "acme_boards"
    package.mkdir()
    (package / "__init__.py").touch()
    board(package, "acme-kiosk", 'extends = "pos-x86"\ntitle = "Kiosk"\ndefault_for = "acme"\n')
    board(package, "t4", BASE)
    info = tmp_path / "acme_boards-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-boards\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[dsedge.targets]\nacme = acme_boards\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    try:
        assert "acme-kiosk" in known_targets()
        assert load_target("acme").name == "acme-kiosk"
        assert load_target("t4").title == "NVIDIA T4", "a shipped board cannot be replaced"
    finally:
        sys.modules.pop("acme_boards", None)


def test_a_target_goes_through_json() -> None:
    target = load_target("jetson")
    assert Target.model_validate_json(target.model_dump_json()) == target
