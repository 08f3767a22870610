import torch

from spikenm_compile.compiler import transform
from spikenm_compile.learning import masked_layers
from spikenm_compile.training.digits import all_digits
from spikenm_compile.training.event_digits import FLIPPED, SIZE, EventDigitsNet, digit_events, event_digits_net


def events_of(images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return digit_events(images, torch.Generator().manual_seed(seed))


def test_events_are_few_binary_and_fixed_by_the_seed() -> None:
    images = all_digits()[0][:64]
    events = events_of(images)
    assert events.shape == (64, 8, 2, SIZE, SIZE)
    assert bool(((events == 0.0) | (events == 1.0)).all())
    assert 0.05 < float(events.mean()) < 0.15
    assert torch.equal(events, events_of(images))
    assert not torch.equal(events, events_of(images, 1))


def test_a_still_or_empty_scene_gives_noise_only() -> None:
    events = events_of(torch.zeros(64, 1, 8, 8))
    assert abs(float(events.mean()) - FLIPPED) < 0.001


def test_brighter_and_darker_edges_balance() -> None:
    on, off = events_of(all_digits()[0][:256]).mean((0, 1, 3, 4))
    assert abs(float(on - off)) < 0.1 * float(on)


def test_the_network_prunes_between_its_neurons_and_takes_any_widths() -> None:
    net = event_digits_net(16)
    transform(net, "2:8", report=None, example_inputs=torch.zeros(2, 8, 2, SIZE, SIZE))
    assert [name for name, _, _ in masked_layers(net)] == ["block2.conv", "block3.conv", "block4.conv"]
    narrow = EventDigitsNet((11, 23, 23, 22))
    assert narrow(torch.zeros(3, 8, 2, SIZE, SIZE)).shape == (3, 10)
