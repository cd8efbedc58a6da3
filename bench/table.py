"""Timing in turns, and a table of it: medians, with half of the spread between the rounds."""
import statistics
import time


def in_turns(functions, calls=2000, rounds=15):
    """{name: [seconds a call]}: every function in every round, so that noise meets all of them."""
    times = {name: [] for name in functions}
    for function in functions.values():
        for _ in range(calls // 10):
            function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            times[name].append((time.perf_counter() - start) / calls)
    return times


def median(values):
    return statistics.median(values)


def show(title, times, base):
    """Print a Markdown table of µs, and each as a multiple of `base`."""
    print(f"\n| {title} | µs | ± | of {base} |\n|---|---|---|---|")
    for name, values in times.items():
        spread = (statistics.quantiles(values, n=4)[2] - statistics.quantiles(values, n=4)[0]) / 2
        print(f"| {name} | {median(values) * 1e6:.2f} | {spread * 1e6:.2f} | {median(values) / median(times[base]):.2f} |")
