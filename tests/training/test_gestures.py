from __future__ import annotations

import numpy as np
import torch

from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.graph import run_steps
from spikenm_compile.training.event_camera import EVENT, EventCamera, bin_events
from spikenm_compile.training.gestures import (
    CLASSES,
    NUM_STEPS,
    SIZE,
    STEP_US,
    GestureNet,
    carried_gesture_net,
    gesture_events,
    load_gestures,
)
from spikenm_compile.training.loop import accuracy, reset_neurons


def test_a_pixel_fires_once_per_contrast_step_with_the_sign_of_its_change() -> None:
    scene = np.ones((4, 2, 3))
    scene[1:, 0, 2] = np.exp(0.25)  # brighter by more than one contrast of 0.2
    scene[3:, 1, 0] = np.exp(-0.45)  # darker by two: one event, since a pixel fires once a millisecond
    events = EventCamera(contrast=0.2, noise_rate=0.0).record(scene, np.random.default_rng(0))
    assert [(e["x"], e["y"], e["polarity"], e["t"] // 1000) for e in events] == [(2, 0, 1, 0), (0, 1, 0, 2)]


def test_noise_fires_without_change_at_its_rate() -> None:
    events = EventCamera(noise_rate=50.0).record(np.ones((201, 16, 16)), np.random.default_rng(0))
    assert abs(len(events) / (0.2 * 16 * 16 * 50.0) - 1) < 0.1
    assert 0.4 < events["polarity"].mean() < 0.6
    assert (np.diff(events["t"].astype(np.int64)) >= 0).all()


def test_events_are_binned_by_their_time() -> None:
    rows = [(1, 0, 1, 0), (1, 0, 1, 9_999), (0, 1, 0, 10_000), (0, 0, 0, 19_999), (0, 0, 0, 20_000)]
    counts = bin_events(np.array(rows, EVENT), 2, 10_000, 2, 2)
    expected = np.zeros((2, 2, 2, 2), np.float32)
    expected[0, 1, 0, 1], expected[1, 0, 1, 0], expected[1, 0, 0, 0] = 2, 1, 1
    assert (counts == expected).all()


def test_gestures_are_made_from_label_and_seed_alone_and_move_as_they_are_called() -> None:
    assert (gesture_events(2, 5) == gesture_events(2, 5)).all()
    assert len(gesture_events(2, 5)) != len(gesture_events(2, 6))
    drift = {}
    for label in range(4):
        moved = []
        for seed in range(8):
            events = gesture_events(label, seed)
            on = events[events["polarity"] == 1]
            early, late = on[on["t"] < 60_000], on[on["t"] >= 100_000]
            moved.append([late[axis].mean() - early[axis].mean() for axis in ("x", "y")])
        drift[CLASSES[label]] = np.mean(moved, axis=0)
    assert drift["right"][0] > 1 > -1 > drift["left"][0]
    assert drift["down"][1] > 1 > -1 > drift["up"][1]


def test_the_data_set_holds_every_class_equally_often_and_splits_do_not_overlap() -> None:
    data = load_gestures(16, 8)
    assert data.train_images.shape == (16, NUM_STEPS, 2, SIZE, SIZE)
    assert data.train_labels.bincount().tolist() == [2] * len(CLASSES)
    assert not torch.equal(data.train_images[:8], data.test_images)
    assert NUM_STEPS * STEP_US == 160_000


def test_the_carried_network_tells_the_gestures_apart_and_holds_its_pattern() -> None:
    data, net = load_gestures(8, 64), carried_gesture_net()
    assert accuracy(net, data.test_images, data.test_labels) > 0.85
    for block in (net.block2, net.block3):
        weight = block.get_parameter("0.weight")
        assert int((weight.detach().reshape(weight.shape[0], -1, 4, 9) != 0).sum(2).max()) == 2


def test_a_model_that_takes_the_batch_first_lifts_with_the_steps_first() -> None:
    torch.manual_seed(0)
    net, x = GestureNet().eval(), torch.randint(0, 3, (2, 3, 2, SIZE, SIZE)).float()
    step_graph = lift(capture(net, x), x)
    reset_neurons(net)
    assert str(step_graph.meta[LAYOUT]) == "[B, T, ...]"
    with torch.no_grad():
        assert torch.equal(run_steps(step_graph, steps_first(step_graph.meta[LAYOUT], x)).output, net(x))
