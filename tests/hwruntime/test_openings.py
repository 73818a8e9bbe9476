"""Openings kept in a folder: runs are the same with and without, and nothing is read that is not the model's own."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hwlang as hw
from hwruntime.checkpoint import open_checkpoint
from hwruntime.engine import CHUNK, Engine
from hwruntime.errors import InputError, ModelError
from hwruntime.models import Model
from hwruntime.openings import WORTH, Opening, Openings, check_folder, rotations
from tests.hwruntime.models_for_tests import FLASHINFER_ON_CPU, LONGROPE, QWEN, Family, configure, loaded, random_model

OPENING = "丈不与专世丙业东" * 40  # 320 tokens: two passes
SHORT = "丈不与专世丙业东" * 7


class Run:
    """A run on the opening: its texts, the K/V of its constants after the first pass, and how many passes encoded."""

    def __init__(self, folder: Path | None, model: Model | None = None, opening: str = OPENING) -> None:
        self.model = model = model or Model.load(str(QWEN), dtype="float32")
        self.engine = Engine(model, None if folder is None else Openings(model, folder))
        self.encoding = 0
        forward = model.forward

        def counted(tokens, plan, slots, wanted):
            self.encoding += not wanted
            return forward(tokens, plan, slots, wanted)

        model.forward = counted
        run = self.engine.start(program(opening).compiled, {}, seed=3)
        self.engine.step([run])
        self.stored = [
            model.read(model.pool.slots(held, range(held.length)))
            for block, held in run.blocks.items()
            if block.kind == "constant"
        ]
        while self.engine.step([run]):
            pass
        self.texts = {name: worker.text for name, worker in run.session.result("").workers.items()}
        self.engine.finish(run)


def program(opening: str) -> hw.Program:
    return hw.parse(f"""program p {{
      budget 12 passes
      sampling {{ temperature 0.8 }}
      scratchpad pad = "丙丙"
      worker Ann, Ben {{ sees "{opening}", pad, others, self begin "{{{{name}}}}丈" forbid "丁" }}
    }}""")


def alike(run: Run, other: Run) -> bool:
    """Bit by bit."""
    assert run.stored
    assert len(run.stored) == len(other.stored)
    same = [
        mine[layer][i].dtype == its[layer][i].dtype
        and torch.equal(mine[layer][i].view(torch.uint8), its[layer][i].view(torch.uint8))
        for mine, its in zip(run.stored, other.stored, strict=True)
        for layer in mine
        for i in (0, 1)
    ]
    return run.texts == other.texts and all(same)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_runs_without_cold_and_warm_are_the_same(tmp_path):
    none, cold, warm = Run(None), Run(tmp_path), Run(tmp_path)
    assert alike(none, cold)
    assert alike(none, warm)
    assert len(files(tmp_path)) == 1
    passes = -(-len(OPENING) // CHUNK)
    assert none.encoding == cold.encoding == warm.encoding + passes


@pytest.mark.parametrize(
    ("options", "attention"),
    [
        ({"dtype": "bfloat16"}, "torch"),
        ({"dtype": "float32", "kv_dtype": "fp8"}, "torch"),
        ({"dtype": "float32"}, FLASHINFER_ON_CPU),
        ({"dtype": "bfloat16", "kv_dtype": "fp8"}, FLASHINFER_ON_CPU),
    ],
)
def test_other_numbers_and_executors(tmp_path, options, attention):
    cold, warm = (Run(tmp_path, Model.load(str(QWEN), attention=attention, **options)) for _ in range(2))
    assert warm.encoding < cold.encoding
    assert alike(cold, warm)


def test_an_opening_of_a_pool_that_has_to_grow_gets_the_same_pages(tmp_path):
    """Pages that lie otherwise would change the last bits of what attention reads."""
    runs = []
    for _ in range(2):
        model = Model.load(str(QWEN), dtype="float32")
        engine = Engine(model, Openings(model, tmp_path))
        begun = [engine.start(program(text).compiled, {}) for text in (OPENING * 8, OPENING * 9)]
        engine.step(begun)
        runs.append([held.pages for run in begun for held in run.blocks.values()])
    assert runs[0] == runs[1]


def test_openings_that_are_short_or_do_not_stand_alone_are_not_kept(tmp_path):
    assert len(SHORT) < WORTH
    Run(tmp_path, opening=SHORT)
    engine = Engine(model := Model.load(str(QWEN), dtype="float32"), Openings(model, tmp_path))
    seen = f'program p {{ worker A {{ sees "一", in context "{OPENING}", self max 2 tokens }} }}'
    engine.run(hw.parse(seen).compiled, {})
    assert files(tmp_path) == []


def test_whatever_makes_other_kv_is_another_file(tmp_path, folder, monkeypatch):
    """Each of these runs encodes its opening, and finds it again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    kept = tmp_path / "openings"
    ways = [
        lambda: Model.load(str(QWEN), dtype="float32"),
        lambda: Model.load(str(QWEN), dtype="bfloat16"),
        lambda: Model.load(str(QWEN), dtype="float32", weights="int8"),
        lambda: Model.load(str(QWEN), dtype="float32", weights="int4"),
        lambda: Model.load(str(QWEN), dtype="float32", kv_dtype="fp8"),
        lambda: Model.load(str(QWEN), dtype="float32", attention=FLASHINFER_ON_CPU),
        lambda: Model.load(str(folder), dtype="float32"),
    ]
    configure(folder, rope_parameters={"rope_theta": 10000.0, "rope_type": "default"})
    for count, way in enumerate(ways, 1):
        cold, warm = Run(kept, way()), Run(kept, way())
        assert len(files(kept)) == count
        assert warm.encoding < cold.encoding
        assert alike(cold, warm)


def test_the_same_files_elsewhere_are_the_same_model(tmp_path, folder):
    kept = tmp_path / "openings"
    Run(kept)
    Run(kept, Model.load(str(folder), dtype="float32"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert len(files(kept)) == 1
    Run(kept, Model.load(str(folder), dtype="float32"))
    assert len(files(kept)) == 2


def test_settings_that_were_changed_after_loading_are_another_model(tmp_path):
    """As an extended context does: the files are the same, the rotations or the context are not."""
    made = [Model.load(str(QWEN), dtype="float32") for _ in range(3)]
    made[1].context = 8192
    made[2].hf.config.rope_parameters = {**made[2].hf.config.rope_parameters, "factor": 4.0}
    identities = [Openings(model, tmp_path)._same for model in made]
    assert len({tuple(each.values()) for each in identities}) == 3


def test_rotations_are_told_apart_by_what_they_do():
    families = [Family("llama"), Family("phi3+longrope", LONGROPE), Family("smollm3", {"no_rope_layers": [1, 1, 1, 0]})]
    models = [loaded(random_model(family.config())) for family in families]
    assert len({rotations(list(model.layers.values())) for model in models}) == 3
    assert rotations(list(models[0].layers.values())) == rotations(
        list(loaded(random_model(families[0].config())).layers.values())
    )


def test_keys_that_are_stored_unrotated_are_another_file(tmp_path):
    """Which they are may be another for each run of one model."""
    model = Model.load(str(QWEN), dtype="float32", attention=FLASHINFER_ON_CPU)
    openings = Openings(model, tmp_path)
    opening = Opening(tuple(range(100)), CHUNK)
    paths = set()
    for path in ("blocks", "page tables"):
        model.executor._path = path
        paths.add(openings._kept(opening).path)
    paths.add(openings._kept(Opening(opening.tokens, 64)).path)
    paths.add(openings._kept(Opening(opening.tokens[1:], 64)).path)
    assert len(paths) == 4


@pytest.mark.parametrize("how", ["cut off", "another's"])
def test_a_file_that_cannot_be_used_is_told_once_and_replaced(how, tmp_path, caplog):
    cold = Run(tmp_path)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    if how == "cut off":
        path.write_bytes(whole[:-1])
    else:
        Run(tmp_path, Model.load(str(QWEN), dtype="bfloat16", attention="torch"))
        next(each for each in files(tmp_path) if each != path).rename(path)
    with caplog.at_level(logging.WARNING):
        again = Run(tmp_path)
    (record,) = caplog.records
    reason = "cannot be read: " if how == "cut off" else "is of something else: it has another config, dtype"
    assert record.getMessage().startswith(f"an opening is encoded again: `{path}` {reason}")
    assert again.encoding == cold.encoding
    assert alike(cold, again)
    caplog.clear()
    warm = Run(tmp_path)
    assert warm.encoding < cold.encoding
    assert alike(cold, warm)
    assert not caplog.records


def test_a_file_that_cannot_be_made_is_told_once_and_the_run_goes_on(tmp_path, caplog):
    model = Model.load(str(QWEN), dtype="float32")
    (tmp_path / "file").touch()
    engine = Engine(model, Openings(model, tmp_path / "file"))
    expected = Run(None)
    for _ in range(2):
        result = engine.run(program(OPENING).compiled, {}, seed=3)
        engine.forget()
        assert {name: worker.text for name, worker in result.workers.items()} == expected.texts
    assert [record.getMessage().split(":")[0] for record in caplog.records].count("an opening is not kept") == 1


def test_a_model_in_memory_has_no_openings_to_keep(tmp_path):
    checkpoint = open_checkpoint(str(QWEN), device="cpu", dtype="float32", trust_remote_code=False)
    assert checkpoint.files is not None
    with pytest.raises(ModelError, match="was not loaded from files"):
        Openings(loaded(random_model(Family("llama").config())), tmp_path)


# --- As it is asked for ---


def test_the_folder_is_made(tmp_path):
    engine = hw.Engine(str(QWEN), dtype="float32", opening_cache=tmp_path / "a" / "b")
    engine.run(program(OPENING))
    assert len(files(tmp_path / "a" / "b")) == 1


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="openings cannot be kept in") as failure:
            hw.Engine("/no/such/model", opening_cache=place)
        assert failure.value.help
    check_folder(tmp_path)
    assert [path.name for path in files(tmp_path)] == ["file"]


def test_no_file_is_read_for_it_where_it_is_not_asked_for(monkeypatch):
    monkeypatch.setattr("hwruntime.kept.Files.digest", property(lambda _: pytest.fail("files were read")))
    hw.Engine(str(QWEN), dtype="float32").run(program(OPENING))


def test_what_one_process_keeps_another_finds(tmp_path):
    code = "import hwlang as hw, sys, torch; torch.set_num_threads(1)\n"
    code += f"engine = hw.Engine({str(QWEN)!r}, dtype='float32', opening_cache=sys.argv[1])\n"
    code += f"print(engine.run(hw.parse({program(OPENING).to_hw()!r}), seed=3)['Ann'])"
    printed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    warm = Run(tmp_path)
    assert (printed.stdout, printed.stderr) == (warm.texts["Ann"] + "\n", "")
    assert warm.encoding < Run(None).encoding
    assert len(files(tmp_path)) == 1
