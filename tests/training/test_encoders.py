import pytest
import torch
from snntorch import spikegen
from spikingjelly.activation_based.encoding import LatencyEncoder

from spikenm_compile.errors import InputError
from spikenm_compile.training.encoders import direct, latency, rate, sample_seed


def test_direct_repeats() -> None:
    x = torch.rand(2, 1, 3, 3)
    assert torch.equal(direct(x, 4), x.unsqueeze(0).repeat(4, 1, 1, 1, 1))


def test_latency_is_that_of_spikingjelly_and_of_snntorch_above_zero() -> None:
    x = torch.rand(3, 1, 5, 5)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 1.0, 1e-6
    encoder = LatencyEncoder(8)
    expected = torch.stack([encoder(x) for _ in range(8)])
    assert torch.equal(latency(x, 8), expected)
    assert torch.equal(latency(x, 8), spikegen.latency(x, num_steps=8, normalize=True, linear=True))
    assert latency(torch.zeros(3), 8).sum() == 0
    assert latency(torch.tensor([1.0, 7.0]), 8)[0].tolist() == [1, 1]


def test_rate_has_the_rate_and_depends_on_nothing_but_the_seed_of_a_sample() -> None:
    x = torch.tensor([0.0, 0.2, 0.9, 1.0]).expand(6, 500, 4)
    seeds = [sample_seed(0, 0, index) for index in range(6)]
    spikes = rate(x, 10, seeds)
    assert spikes.shape == (10, 6, 500, 4)
    assert bool(((spikes == 0) | (spikes == 1)).all())
    means = spikes.mean((0, 1, 2))
    assert means[[0, 3]].tolist() == [0, 1]
    assert torch.allclose(means, x[0, 0], atol=0.01)
    assert torch.equal(rate(x[2:4], 10, seeds[2:4]), spikes[:, 2:4])
    assert not torch.equal(spikes[:, 0], spikes[:, 1])


def test_seeds_differ_between_samples_epochs_and_runs() -> None:
    seeds = {sample_seed(*place) for place in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}
    assert len(seeds) == 4
    assert sample_seed(1, 2, 3) == sample_seed(1, 2, 3)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="1 seeds for 2 samples; one seed per sample"):
        rate(torch.rand(2, 3), 4, [0])
    for encode in (direct, latency):
        with pytest.raises(InputError, match="num_steps is 0; 1 or more"):
            encode(torch.rand(2), 0)
