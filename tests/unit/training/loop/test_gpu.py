"""What a training does on a GPU, as far as it can be tested without one."""

from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.checkpoints import short
from support.image_fixtures import draw_noisy
from torch.optim.swa_utils import AveragedModel

from tagmill.cli.terminal.progress import Display
from tagmill.errors import ExitCode
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.classify import CLASSIFY
from training.annotations.folders import Folders
from training.checkpoint import STATE, Checkpoint, write
from training.cli.train import train
from training.evaluation.predict import BATCH, GPU_BATCH, call_size, fast_in_bf16
from training.loop import training
from training.loop.compile import COMPILED_FROM, Compiled, can_compile, worth_compiling
from training.loop.device_tensor import DeviceTensor
from training.loop.ema import EMA
from training.loop.training import Training
from training.models.classifiers import Arch
from training.recipes import cnn
from training.recipes.cnn import DEFAULTS, train_cnn

torch.set_num_threads(1)

GPU, CPU = torch.device("cuda:1"), torch.device("cpu")
SMALL = short(DEFAULTS[Arch.SIMPLE_CNN], epochs=2, batch_size=16)


@pytest.mark.skipif(not can_compile(), reason="no C compiler here, or no header files of Python")
def test_whole_batches_run_compiled_and_smaller_ones_uncompiled_with_the_same_weights() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    calls: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    compiled = Compiled(network, batch_size=8)
    whole, last = torch.randn(8, 4), torch.randn(5, 4)
    torch.testing.assert_close(compiled(whole), network(whole))
    calls.clear()
    assert torch.equal(compiled(last), network(last))
    assert calls == [5, 5]
    compiled(whole).sum().backward()
    assert network[0].weight.grad is not None
    assert list(network.state_dict()) == ["0.weight", "0.bias"]


def test_a_long_training_on_a_gpu_is_compiled_if_the_machine_can_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worth_compiling(GPU, COMPILED_FROM) == can_compile()
    assert not worth_compiling(GPU, COMPILED_FROM - 1)
    assert not worth_compiling(CPU, COMPILED_FROM)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not can_compile()


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_that_only_emulate_bfloat16_do_not_use_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    assert fast_in_bf16(GPU) is fast
    assert asked == [GPU]


def test_batches_have_the_values_and_the_dtype_that_were_stored() -> None:
    pixels = torch.arange(5 * 2 * 2 * 3, dtype=torch.uint8).view(5, 2, 2, 3)
    chosen = torch.tensor([4, 0, 4])
    for values in (pixels, pixels.numpy()):
        taken = DeviceTensor(values, CPU).take(chosen)
        assert torch.equal(taken, pixels[chosen])
        assert taken.dtype == torch.uint8


def test_a_call_takes_more_small_images_on_a_gpu_and_fewer_large_ones_on_any_device() -> None:
    assert (call_size(32, 32), call_size(32, 32, "cuda")) == (BATCH, GPU_BATCH)
    assert call_size(512, 512) == call_size(512, 512, "cuda") == 8
    assert call_size(10_000, 10_000) == 1


def test_the_ema_equals_torchs_averaged_model() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    @torch.no_grad()
    def update(means: list[torch.Tensor], values: list[torch.Tensor], steps: torch.Tensor) -> None:
        decay = min(0.9, (1 + int(steps)) / (10 + int(steps)))
        change = torch._foreach_lerp_ if means[0].is_floating_point() else torch._foreach_copy_
        change(list(means), list(values), *([1 - decay] if means[0].is_floating_point() else []))

    theirs = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    ours = EMA(network, 0.9)
    for _ in range(20):
        network(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            network[0].weight += torch.randn_like(network[0].weight)
        theirs.update_parameters(network)
        ours.update_parameters(network)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_gpu_out_of_memory_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.")

    monkeypatch.setattr(cnn, "fit", full)
    data = draw_noisy(tmp_path / "train", each=4)
    done = CliRunner().invoke(train, ["cnn", "--data", str(data), "--out", str(tmp_path / "run")])
    assert (type(done.exception).__name__, done.exception.exit_code) == ("ConfigurationError", ExitCode.CONFIGURATION)
    assert str(done.exception) == "the GPU has too little memory; choose a smaller --batch-size or --size"


@pytest.mark.parametrize("written", [[], [torch.get_rng_state()], None], ids=["none", "all GPUs", "cpu"])
def test_random_states_of_another_number_of_gpus_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: object
) -> None:
    network = torch.nn.Linear(1, 1)
    draft = Checkpoint("cnn", CLASSIFY, "simple-cnn", ("a", "b"), PreprocessSpec(8, 8), {}, {})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    new = partial(Training, network, optimizer, SMALL.loop, 4, draft, tmp_path, Display(), metric="m", device=CPU)
    write(new()._state() | {"random_cuda": written}, tmp_path / STATE)
    taken: list[torch.Tensor] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: taken.append(state))
    training = new()
    training._device = GPU
    training._resume()
    assert taken == []


def test_a_gpu_out_of_memory_does_not_make_a_good_run_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_log", stop)
        with pytest.raises(KeyboardInterrupt):
            train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL)
    assert (tmp_path / "run" / STATE).exists()

    def full(path: Path) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "read", full)
    with pytest.raises(torch.OutOfMemoryError):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL, resume=True)
