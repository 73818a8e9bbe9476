"""Workers behind an opening that is not read."""

import pytest

import hwlang as hw
from hwlang.cli.bench import PROGRAM
from hwruntime.bench.scene import Filled, Scene
from hwruntime.bench.shapes import open_shape
from hwruntime.engine import Engine
from hwruntime.errors import InputError

COMPILED = hw.parse(PROGRAM).compiled


@pytest.fixture
def filled() -> Filled:
    return Filled(open_shape("small", device="cpu", dtype="float32"), "torch")


def test_a_step_adds_a_token_for_each_worker(filled):
    scene = Scene(Engine(filled), COMPILED, 100, 3, passes=5)
    assert scene.stored == 100
    scene.step()  # in which each reads the opening's last token once more
    scene.step()
    before = scene.stored
    assert scene.step() > 0
    assert scene.stored == before + 3
    scene.close()
    assert filled.pool.used == 0


def test_the_opening_is_random_numbers_in_every_layer(filled):
    scene = Scene(Engine(filled), COMPILED, 100, 1, passes=5)
    for layer in range(2):
        keys, values = filled._storage.layer(layer)
        assert (keys.abs().sum((0, 2)) > 0).sum() == 100
        assert (values.abs().sum((0, 2)) > 0).sum() == 100
    scene.close()


def test_scenes_of_one_opening_share_it(filled):
    engine = Engine(filled)
    first, second = (Scene(engine, COMPILED, 160, workers, passes=5) for workers in (1, 2))
    assert filled.pool.used == 160
    first.close()
    second.close()


def test_what_is_too_long_for_the_model_is_told(filled):
    with pytest.raises(InputError):
        Scene(Engine(filled), COMPILED, filled.context, 1, passes=5)
