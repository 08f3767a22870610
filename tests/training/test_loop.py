import dataclasses

import pytest
import torch

from spikenm_compile.errors import InputError
from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, fold_masks, masked_layers
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.digits import ImageData, digits_net, load_digits
from spikenm_compile.training.loop import Progress, accuracy, total_steps, train

EPOCHS = 6


def some_digits() -> ImageData:
    data = load_digits()
    return dataclasses.replace(data, train_images=data.train_images[:512], train_labels=data.train_labels[:512])


def test_a_short_training_learns_reports_and_is_repeatable() -> None:
    data, losses, nets = some_digits(), [], []
    for _ in range(2):
        torch.manual_seed(0)
        net = digits_net(num_steps=2)
        seen: list[Progress] = []
        train(net, data, epochs=EPOCHS, seed=5, progress=seen.append)
        losses.append([p.loss for p in seen])
        nets.append(net)
    assert [p.step for p in seen] == list(range(1, 49))
    assert {p.total_steps for p in seen} == {total_steps(512, EPOCHS)} == {48}
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert accuracy(nets[0], data.test_images, data.test_labels) > 0.6


def test_masked_training_freezes_in_time_and_folds_to_the_same_accuracy() -> None:
    data = some_digits()
    torch.manual_seed(0)
    net = digits_net(num_steps=2)
    options = MaskOptions(Schedule(total_steps(512, EPOCHS)))
    for block in (net.block2, net.block3, net.block4):
        attach_mask(block.conv, Pattern(2, 4), options, "block")
    train(net, data, epochs=EPOCHS)
    learners = [learner for _, _, learner in masked_layers(net)]
    assert [int(learner.step) for learner in learners] == [48] * 3
    assert all(learner.options.schedule.is_frozen(47) for learner in learners)
    before = accuracy(net, data.test_images, data.test_labels)
    assert net.training
    fold_masks(net)
    assert accuracy(net, data.test_images, data.test_labels) == before
    assert before > 0.6
    assert all(Pattern(2, 4).holds(b.conv.weight) for b in (net.block2, net.block3, net.block4))


def test_too_few_images_are_refused() -> None:
    data = load_digits()
    few = dataclasses.replace(data, train_images=data.train_images[:9], train_labels=data.train_labels[:9])
    with pytest.raises(InputError, match="9 images × 12 epochs make no batch"):
        train(digits_net(), few)
