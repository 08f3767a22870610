"""The training engine: steps from the beginning or from a checkpoint to the end.

Masks need nothing from it: their gradients are finished by a hook of the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from spikenm_compile.errors import InputError
from spikenm_compile.learning import param_groups
from spikenm_compile.learning.activity import ActivityTarget
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.training.batches import Samples, samples_for_test, training_samples
from spikenm_compile.training.digits import ImageData
from spikenm_compile.training.distributed import check_shares, distribute, this_world
from spikenm_compile.training.evaluation import reset_neurons, share_recognised
from spikenm_compile.training.memory import MEMORY
from spikenm_compile.training.run_directory import RunDirectory
from spikenm_compile.training.settings import Settings, optimizer_class
from spikenm_compile.training.step import Job, Loss, LossTerm, Progress

Observer = Callable[[Progress], None]


def run_training(
    model: nn.Module,
    data: ImageData | Samples,
    settings: Settings,
    run_dir: Path | None = None,
    observers: Sequence[Observer] = (),
    *,
    test: Samples | None = None,
    terms: Sequence[LossTerm] = (),
    loss: Loss | None = None,
    resume: bool = False,
) -> None:
    """Train `model` in place, on the device where it is.

    Args:
        model: the network; transform it before, with `total_steps=settings.total_steps(len(data))`.
        data: what to train on; `ImageData` says what to test on, too.
        settings: all numbers of the training.
        run_dir: directory of checkpoints and logs; None: nothing is written.
        observers: called after each step.
        test: samples whose accuracy is measured as `settings.evaluate_every` says.
        terms: added to the loss.
        loss: instead of cross entropy with smoothed labels.
        resume: go on from the checkpoint in `run_dir`, where there is one.

    Raises:
        InputError: the data, the masks or the processes do not fit the settings.
        CheckpointError: `run_dir` holds a checkpoint, and it is not to be used or cannot be.
        KeyboardInterrupt: Ctrl-C; with `run_dir` SIGTERM too, and after the step at hand and a checkpoint.
    """
    test = test or samples_for_test(data)
    with ExitStack() as stack:
        if settings.activity_target:
            wish = ActivityTarget(model, settings.activity_target, settings.activity_strength)
            terms = (*terms, stack.enter_context(wish))
        job = _job(model, training_samples(data), settings, terms, loss)
        directory = None if run_dir is None else RunDirectory(run_dir, job)
        start = 0 if directory is None else stack.enter_context(directory.opened(resume))
        devices = [job.device] if job.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(MEMORY[settings.memory](model))
        model.train()
        for term in terms:
            term.step = start * settings.accumulate
        for step in range(start, job.total_steps):
            reached = _evaluated(job, job.take(step), test)
            if directory is not None:
                directory.note(reached)
            for observer in observers:
                observer(reached)
        reset_neurons(model)


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """The optimiser that `settings` name, over all parameters of `model`.

    Raises:
        InputError: it does not take these parameters or options.
    """
    kind = optimizer_class(settings.optimizer, settings.optimizer_options)
    try:
        return kind(param_groups(model, settings.lr, settings.weight_decay), **settings.optimizer_options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"torch.optim.{settings.optimizer} does not take this model or its options: {error}"
        ) from error


def smoothed_cross_entropy(smoothing: float) -> Loss:
    """Cross entropy with `smoothing` of the labels' weight spread over all classes."""
    return lambda outputs, labels: F.cross_entropy(outputs, labels, label_smoothing=smoothing)


def _job(model: nn.Module, samples: Samples, settings: Settings, terms: Sequence[LossTerm], loss: Loss | None) -> Job:
    world, total_steps = this_world(), settings.total_steps(len(samples))
    check_shares(world, settings.batch_size, settings.accumulate)
    _check_schedules(model, total_steps)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    runner = distribute(model, world, settings.distributed)
    forward: Callable[[Tensor], Tensor] = runner
    if settings.compile != "none":
        forward = torch.compile(runner, backend=settings.compile)
    optimizer = make_optimizer(model, settings)
    return Job(
        *(model, runner, forward, optimizer, settings, world, samples, total_steps),
        loss or smoothed_cross_entropy(settings.label_smoothing),
        terms,
    )


def _evaluated(job: Job, reached: Progress, test: Samples | None) -> Progress:
    """`reached` with the test accuracy, where it is due."""
    epochs, rest = divmod(reached.step, job.steps_per_epoch)
    every = job.settings.evaluate_every
    if test is None or rest or not every or (epochs % every and reached.step < job.total_steps):
        return reached
    return replace(reached, accuracy=share_recognised(job.model, test, job.world))


def _check_schedules(model: nn.Module, total_steps: int) -> None:
    """Refuse masks that would cool down over another training.

    Raises:
        InputError: there are such.
    """
    for name, _, learner in learning_layers(model):
        planned = learner.options.schedule.total_steps
        if planned not in (None, total_steps):
            raise InputError(
                f"the mask of layer '{name}' cools down over {planned} steps, and this training has {total_steps}; "
                f"transform the model with total_steps={total_steps}"
            )
