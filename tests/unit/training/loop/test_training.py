"""What the trainings of all recipes share: resuming, early stopping, EMA, the log, and a full disk."""

import io
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.checkpoints import InterruptAt, short
from support.image_fixtures import draw_noisy
from support.processes import TAGMILL, environment, wait_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tagmill.errors import ConfigurationError, ExitCode, InputError, NothingToDo
from training import checkpoint as checkpoint_module
from training.annotations.folders import Folders
from training.checkpoint import FILE, STATE, load, read, write
from training.cli.train import train
from training.loop.augment import Augmentation
from training.loop.ema import EMA
from training.loop.resume import stage_of
from training.models.classifiers import Arch
from training.recipes.cnn import DEFAULTS, train_cnn

torch.set_num_threads(1)

SMALL = short(DEFAULTS[Arch.SIMPLE_CNN], epochs=3, batch_size=16, lr=5e-3, average=0.9)


@pytest.mark.parametrize("arch", [Arch.SIMPLE_CNN, Arch.RESNET])
def test_a_resumed_training_ends_with_the_same_weights_bit_for_bit(tmp_path: Path, arch: Arch) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=6),))
    hyper = short(DEFAULTS[arch], size=32, epochs=3, batch_size=6, average=0.9)
    whole = train_cnn(folders, tmp_path / "whole", arch, hyper)
    with pytest.raises(KeyboardInterrupt):
        train_cnn(folders, tmp_path / "stopped", arch, hyper, display=InterruptAt("epoch 2/"))
    assert (tmp_path / "stopped" / STATE).exists()
    resumed = train_cnn(folders, tmp_path / "stopped", arch, hyper, resume=True)
    one, two = load(tmp_path / "whole"), load(tmp_path / "stopped")
    assert one.epoch == two.epoch
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    without_time = [
        [{key: value for key, value in entry.items() if key != "seconds"} for entry in report["history"]]
        for report in (whole, resumed)
    ]
    assert without_time[0] == without_time[1]
    assert not (tmp_path / "stopped" / STATE).exists()


def test_a_training_stopped_in_its_first_epoch_starts_from_the_beginning(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    (tmp_path / "run").mkdir()
    report = train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1), resume=True)
    assert len(report["history"]) == 1


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1))
    with pytest.raises(NothingToDo, match="this run is finished"):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1), resume=True)


def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    with pytest.raises(KeyboardInterrupt):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL, display=InterruptAt("epoch 1/"))
    with pytest.raises(InputError, match=r"was started with; lr was 0\.005, is 0\.001$"):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, lr=1e-3), resume=True)
    other = short(SMALL, epochs=4, augmentation=Augmentation(flip=0.25, shift=0.063))
    with pytest.raises(InputError, match=r"; loop\.epochs was 3, is 4; augmentation\.flip was 0\.5, is 0\.25$"):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, other, resume=True)


def test_a_run_is_not_resumed_with_another_network_or_other_labels(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=4)
    with pytest.raises(KeyboardInterrupt):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL, display=InterruptAt("epoch 1/"))
    with pytest.raises(InputError, match=r"was started with; arch was simple-cnn, is resnet$"):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.RESNET, SMALL, resume=True)
    with pytest.raises(InputError, match=r"was started with; task was classify, is multilabel$"):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL, resume=True, multilabel=True)
    next(iter(sorted(path for path in data.iterdir()))).rename(data / "zebra")
    with pytest.raises(InputError, match=r"was started with; labels was \['blue'\], is \['zebra'\]$"):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL, resume=True)


def test_a_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE).write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"state\.pt: is damaged"):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL, resume=True)


@pytest.mark.parametrize("content", [3, [1, 2], {"epoch": 1}, {"stage": "", "started_with": {"task": "classify"}}])
def test_a_state_with_other_content_is_refused_by_name(tmp_path: Path, content: object) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    (tmp_path / "run").mkdir()
    torch.save(content, tmp_path / "run" / STATE)
    with pytest.raises(InputError, match=r"state\.pt: is not the state of this training; remove .*run, or name"):
        train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL, resume=True)
    if not isinstance(content, dict) or "stage" not in content:
        with pytest.raises(InputError, match=r"state\.pt: is not the state of this training"):
            stage_of(tmp_path / "run", resume=True)


def test_ctrl_c_is_one_line_that_says_how_to_resume(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", each=4), tmp_path / "run"
    # With so small a rate it does not diverge, however many epochs a busy machine has before the signal comes.
    endless = ("--epochs", "100000", "--lr", "1e-6")
    command = [TAGMILL, "train", "mlp", "--data", str(data), "--out", str(run), *endless]
    with (tmp_path / "stderr").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment() | {"OMP_NUM_THREADS": "1"})
        wait_until((run / STATE).exists, 120, "the first epoch")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == ExitCode.INTERRUPTED
    hints = [
        line for line in (tmp_path / "stderr").read_text().splitlines() if "interrupted" in line or "again" in line
    ]
    (hint,) = hints
    assert hint.endswith("which `tagmill export` takes; the same command with --resume goes on")


def test_a_training_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", ("red",), each=4), tmp_path / "run"
    words = ["mlp", "--data", str(data), "--out", str(run)]
    assert isinstance(CliRunner().invoke(train, words).exception, InputError)
    assert not run.exists()
    run.mkdir()
    assert isinstance(CliRunner().invoke(train, words).exception, InputError)
    assert run.exists()


@pytest.mark.parametrize("out", ["images", "images/train/red", "."])
@pytest.mark.parametrize("use", ["--data", "--validation", "--test"])
def test_a_run_folder_among_the_images_is_refused(tmp_path: Path, out: str, use: str) -> None:
    data, other = (
        draw_noisy(tmp_path / "images" / "train", each=2),
        draw_noisy(tmp_path.parent / f"{tmp_path.name}x", each=2),
    )
    named = ["--data", str(data)] if use == "--data" else ["--data", str(other), use, str(data)]
    error = CliRunner().invoke(train, ["mlp", *named, "--out", str(tmp_path / out)]).exception
    assert isinstance(error, InputError)
    assert "must lie outside of the images" in str(error)
    assert not (tmp_path / out / FILE).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mlp", "--lr", "nan"], "nan is not a finite number"),
        (["mlp", "--lr", "inf"], "inf is not a finite number"),
        (["cnn", "--weight-decay", "nan"], "nan is not a finite number"),
        (["cnn", "--average", "nan"], "nan is not a finite number"),
        (["transfer", "--weights", "none", "--lr-decay", "nan"], "nan is not a finite number"),
        (["transfer", "--weights", "none", "--head-lr", "inf"], "inf is not a finite number"),
        (["svc", "--c", "NaN"], "NaN is not a finite number"),
        (["segment", "--out", ""], "is empty; name a path"),
        (["svc", "--test", ""], "is empty; name a path"),
    ],
)
def test_an_option_that_is_not_a_finite_number_or_a_path_is_refused(
    tmp_path: Path, words: list[str], message: str
) -> None:
    done = CliRunner().invoke(train, [words[0], "--data", str(tmp_path), "--out", str(tmp_path / "run"), *words[1:]])
    assert done.exit_code == ExitCode.USAGE
    assert message in done.output


def test_a_training_that_stops_improving_ends_early_and_keeps_its_best_epoch(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "train"
    for label in ("one", "two"):  # the same gray everywhere: nothing can be learned
        (data / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (90, 90, 90 + number % 2)).save(data / label / f"{label}{number}.png")
    hyper = short(SMALL, epochs=40, patience=3, lr=1e-9, average=0.0)
    report = train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, hyper)
    assert len(report["history"]) < 40
    assert "ended early" in capfd.readouterr().err
    best = max(entry["validation_accuracy"] for entry in report["history"])
    assert report["history"][report["epoch"] - 1]["validation_accuracy"] == best


def test_the_ema_follows_the_weights_quickly_at_first_and_slowly_later() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(network, 0.99)
    with torch.no_grad():
        for step in range(2100):
            network.weight.fill_(1.0 if step < 2000 else 2.0)
            ema.update_parameters(network)
            if step == 20:
                assert ema.module.weight.item() == pytest.approx(1.0, abs=1e-3)
    assert ema.module.weight.item() == pytest.approx(2 - 0.99**100, abs=1e-3)


def test_the_metrics_are_logged_for_tensorboard(tmp_path: Path) -> None:
    train_cnn(
        Folders((draw_noisy(tmp_path / "train", each=4),)), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=2)
    )
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    log.Reload()
    assert {"training/loss", "training/lr", "validation/accuracy"} <= set(log.Tags()["scalars"])
    assert [event.step for event in log.Scalars("validation/accuracy")] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_that_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_full_disk(values: object, path: Path) -> None:
        with Path("/dev/full").open("wb") as disk:
            disk.write(bytes(100_000))
            disk.flush()
            os.fsync(disk.fileno())

    monkeypatch.setattr(checkpoint_module.torch, "save", to_full_disk)
    with pytest.raises(ConfigurationError, match="No space left on device; make room, then the same command"):
        write({}, tmp_path / FILE)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_the_state_is_written_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InterruptedFile(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell():  # torch raises RuntimeError only if it has written something
                raise KeyboardInterrupt  # as Python's handler of the signal does; a test process may end of a real one
            return super().write(data)

    write({"epoch": 1}, tmp_path / STATE)
    save = torch.save
    monkeypatch.setattr(checkpoint_module.torch, "save", lambda values, out: save(values, InterruptedFile()))
    with pytest.raises(KeyboardInterrupt):
        write({"epoch": 2}, tmp_path / STATE)
    assert read(tmp_path / STATE) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.usefixtures("figures")
def test_the_mlp_is_trained_on_gray_images_by_its_own_command(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", each=6), tmp_path / "run"
    done = CliRunner().invoke(train, ["mlp", "--data", str(data), "--out", str(run), "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert (load(run).recipe, load(run).arch, load(run).preprocess.width) == ("mlp", "mlp", 28)
    assert json.loads((run / "metrics.json").read_text())["parameters"] == 784 * 128 + 128 + 128 * 3 + 3
