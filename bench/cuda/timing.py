"""timing: median milliseconds a call by CUDA events, as harness.cuh takes them."""
import torch

ROUNDS = 15
ROTATED = 512 << 20  # bytes of inputs that take turns, ten times the second-level cache


def median_ms(n_calls, run):
    """Of run(), which makes n_calls; two rounds go ahead."""
    times = []
    for round_ in range(-2, ROUNDS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        if round_ >= 0:
            times.append(start.elapsed_time(stop) / n_calls)
    return sorted(times)[len(times) // 2]


def as_graph(calls):
    """The same calls as one graph, for what is over sooner than it is launched. What they allocate they must have allocated before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    return graph.replay
