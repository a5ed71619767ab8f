"""Cost of the diffusion processes: python tests/benchmarks/bench_diffusion.py [--crystals 1000] [--orbits 20].

Compares the closed-form posterior with one that materialises its matrices, in CPU time and peak memory (each in a
process of its own), and prints the cost of everything else that a reverse step does besides the network.
"""

import argparse
import multiprocessing
import resource
import time

import torch

from matgen.diffusion.categorical import CategoricalConfig, MarginalProcess
from matgen.diffusion.joint import Context, Fields, JointConfig, JointProcess, ReverseConfig
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.schedule import SigmaConfig, SigmaSchedule
from matgen.diffusion.wrapped_normal import score_norm


class Answer:
    """Random numbers in the shape of a prediction."""

    def __init__(self, crystals, orbits):
        self.lattice_eps = torch.randn(crystals, 6)
        self.coord_score = torch.randn(crystals, orbits, 3)
        self.species_logits = torch.randn(crystals, orbits, 94)
        self.site_symmetry_logits = torch.randn(crystals, orbits, 15, 13)


def cpu_seconds(function, repeats=3):
    """The least CPU time of several runs."""
    function()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def materialised_posterior(x_t, x_0_probs, alpha_bar_t, alpha_bar_s, prior):
    """The same probabilities by [B, M, classes, classes] matrices: what the closed form replaces."""
    classes = x_0_probs.shape[-1]
    eye = torch.eye(classes)

    def transition(keep):
        return keep[:, None, None, None] * eye + (1 - keep)[:, None, None, None] * prior[..., None, :]

    z = torch.nn.functional.one_hot(x_t, classes).float()
    onward = torch.einsum("bmsz,bmz->bms", transition(alpha_bar_t / alpha_bar_s).expand(*x_t.shape, -1, -1), z)
    joint = onward[..., None, :] * transition(alpha_bar_s)
    evidence = torch.einsum("bmaz,bmz->bma", transition(alpha_bar_t).expand(*x_t.shape, -1, -1), z)
    weights = x_0_probs[..., None] * joint / evidence[..., None]
    return weights.sum(-2)


def posterior_inputs(crystals, orbits, classes):
    """x_t, predicted probabilities, t, s and a prior per crystal."""
    rng = torch.Generator().manual_seed(0)
    t = torch.randint(2, 1000, (crystals,), generator=rng)
    guess = torch.randn(crystals, orbits, classes, generator=rng).softmax(-1)
    prior = torch.rand(crystals, 1, classes, generator=rng).softmax(-1)
    return torch.randint(0, classes, (crystals, orbits), generator=rng), guess, t, t - 1, prior


def measure_posterior(closed_form, crystals, orbits, pipe):
    """CPU seconds and peak memory (MB above the inputs) of one posterior of species and of 15 symmetry axes."""
    torch.set_num_threads(1)
    species = posterior_inputs(crystals, orbits, 94)
    axes = [posterior_inputs(crystals, orbits, 13) for _ in range(15)]
    processes = {n: MarginalProcess(CategoricalConfig(num_classes=n)) for n in (94, 13)}
    stacked = [torch.stack([a[i] for a in axes], 2) for i in (0, 1, 4)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def naive(x_t, guess, t, s, prior):
        schedule = processes[94].schedule
        return materialised_posterior(
            x_t, guess, schedule.alpha_bar_at(t).float(), schedule.alpha_bar_at(s).float(), prior
        )

    def run():
        if closed_form:
            symmetry = processes[13].posterior_probs(stacked[0], stacked[1], axes[0][2], axes[0][3], stacked[2])
            return processes[94].posterior_probs(*species), symmetry
        return naive(*species), torch.stack([naive(a[0], a[1], axes[0][2], axes[0][3], a[4]) for a in axes], 2)

    results = run()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    pipe.send((cpu_seconds(run), peak, [r[:8].numpy() for r in results]))


def in_own_process(closed_form, crystals, orbits):
    """measure_posterior in a fresh process, so that peaks do not add up."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure_posterior, args=(closed_form, crystals, orbits, sender))
    child.start()
    result = receiver.recv()
    child.join()
    return result


def report_posterior(crystals, orbits):
    """Prints the comparison, after checking that both ways agree."""
    fast, fast_mb, fast_probs = in_own_process(True, crystals, orbits)
    slow, slow_mb, slow_probs = in_own_process(False, crystals, orbits)
    worst = max(float(abs(a - b).max()) for a, b in zip(fast_probs, slow_probs, strict=True))
    print(
        f"D3PM posterior, {crystals} crystals x {orbits} orbits, 94 species + 15 x 13 classes (agree to {worst:.1e}):"
    )
    print(f"  closed form  {fast * 1e3:8.1f} ms CPU  peak {fast_mb:7.0f} MB")
    print(f"  materialised {slow * 1e3:8.1f} ms CPU  peak {slow_mb:7.0f} MB")
    print(f"  ratio        {slow / fast:8.1f}              {slow_mb / max(fast_mb, 1e-9):7.1f}")
    moved = 4 * crystals * orbits * (94 + 15 * 13) * 2
    rate = moved / fast / 1e9
    print(f"  probabilities read and written once: {moved / 1e6:.0f} MB, {rate:.1f} GB/s of unavoidable traffic")


def report_step(crystals, orbits):
    """Prints the cost of the process around one network call."""
    torch.set_num_threads(1)
    process = JointProcess(JointConfig())
    noise = CounterNoise(row_seed(0, torch.arange(crystals)))
    context = Context(
        mask=torch.ones(crystals, orbits, dtype=torch.bool),
        lattice_mask=torch.ones(crystals, 6, dtype=torch.bool),
        species_prior=torch.full((94,), 1 / 94),
        site_symmetry_prior=torch.full((crystals, 15, 13), 1 / 13),
    )
    x_t: Fields = process.prior_sample(context, noise)
    answer, t = Answer(crystals, orbits), process.draw_t(noise).clamp(min=2)
    sites = crystals * orbits
    parts = {
        "corrupt": lambda: process.corrupt(x_t, t, context, noise),
        "reverse_step": lambda: process.reverse_step(x_t, answer, t, t - 1, context, noise, ReverseConfig()),
        "correct_coords": lambda: process.correct_coords(x_t, answer, t, context, noise, 1e-5),
        "normal noise [M, 3]": lambda: noise.normal(1, 1, (orbits, 3)),
        "uniform noise [M, 15]": lambda: noise.uniform(1, 1, (orbits, 15)),
    }
    for name, function in parts.items():
        seconds = cpu_seconds(function)
        print(f"{name:22s} {seconds * 1e3:8.1f} ms CPU  {seconds / sites * 1e9:8.0f} ns per orbit")
    sigma = SigmaSchedule(SigmaConfig()).sigma[1:]
    print(f"{'lambda of 1000 sigmas':22s} {cpu_seconds(lambda: score_norm(sigma)) * 1e3:8.1f} ms CPU")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=1000)
    parser.add_argument("--orbits", type=int, default=20)
    arguments = parser.parse_args()
    report_posterior(arguments.crystals, arguments.orbits)
    report_step(arguments.crystals, arguments.orbits)
