"""Throughput and latency of the HTTP API at several numbers of clients, with and without batches.

Example:
    python projects_tools/benchmark.py serving --size 320 --seconds 30
    python projects_tools/benchmark.py serving --device cuda --batch 8 --own-prompts

A server in its own process runs the model of a config, with random weights unless a checkpoint is
given. Each client sends its next image when the last one is answered. The two ways of batching take
turns; what is sent in the first moments warms up and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection

import httpx
import numpy as np
from benchmarks.machine import add_json_argument, processor_name, write_figures
from PIL import Image

PROMPT = "a cat. a dog. a person. a red car. a traffic light."
CHANGED = "dataloader.test.mapper.augmentations.0"
TIMEOUT = 3600.0
COLUMNS = ("clients", "batches up to", "images/s", "median s", "95 % s", "mean batch", "answers")


def run_server(given: argparse.Namespace, most: int, told: Connection) -> None:
    """Serves the model in this process; tells its port."""
    import torch

    from cqdino_d2.prediction.loading import load_predictor
    from cqdino_d2.serving.api.app import make_api
    from cqdino_d2.serving.api.detection import Detector
    from cqdino_d2.serving.api.metrics import Metrics
    from cqdino_d2.serving.limits import ApiLimits
    from cqdino_d2.serving.listener import listening, serve
    from cqdino_d2.serving.models import Models
    from cqdino_d2.serving.runner import Batching, Runner

    torch.manual_seed(0)
    size = [f"{CHANGED}.short_edge_length={given.size}", f"{CHANGED}.max_size={given.size}"]
    options = {"device": given.device, "overrides": size if given.size else []}
    predictors = {"model": load_predictor(given.config_file, given.weights, **options)}
    limits = ApiLimits(answer_seconds=TIMEOUT, requests_per_minute=10**7)
    metrics = Metrics()
    runner = Runner(predictors, Batching(most, queue=1000), metrics.count_batch)
    detector = Detector(Models(predictors, limits=limits, runner=runner), limits)
    api = make_api(detector, host="127.0.0.1", limits=limits, metrics=metrics)
    with listening("127.0.0.1", 0) as listener:
        told.send((listener.getsockname()[1], torch.get_num_threads()))
        with contextlib.suppress(KeyboardInterrupt):
            serve(api, listener, connections=limits.connections, access_log=False)


def photo(height: int, width: int) -> bytes:
    """A JPEG file of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


async def measure(
    address: str, clients: int, seconds: float, image: bytes, own_prompts: bool
) -> tuple[list[float], list[int], float]:
    """Latencies and sizes of batches of what was answered, and how long that took."""
    limits = httpx.Limits(max_connections=clients)
    latencies, sizes = [], []
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT, limits=limits) as client:

        async def ask(number: int) -> None:
            prompt = f"{PROMPT} {'very ' * (number % 20)}small." if own_prompts else PROMPT
            while time.perf_counter() - start < seconds:
                begun = time.perf_counter()
                files, data = {"image": image}, {"prompt": prompt}
                answer = await client.post("/v1/detect", files=files, data=data)
                answer.raise_for_status()
                latencies.append(time.perf_counter() - begun)
                sizes.append(answer.json()["batch_size"])

        await asyncio.gather(*(ask(number) for number in range(clients)))
    return latencies, sizes, time.perf_counter() - start


def row(clients: int, most: int, figures: tuple[list[float], list[int], float]) -> list[str]:
    """The cells of a row of the table."""
    latencies, sizes, seconds = figures
    ordered = sorted(latencies)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return [
        str(clients),
        str(most),
        f"{len(ordered) / seconds:.2f}",
        f"{statistics.median(ordered):.3f}",
        f"{late:.3f}",
        f"{statistics.mean(sizes):.1f}",
        str(len(ordered)),
    ]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="configs/grounding_dino/swint_ogc.py", metavar="FILE")
    add("--weights", default="", metavar="FILE", help="random ones by default")
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    add(
        "--size",
        type=int,
        default=0,
        metavar="N",
        help="longest side in the model",
    )
    add("--image", type=int, nargs=2, default=(480, 640), metavar="N", help="height and width sent")
    add("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    add("--batch", type=int, default=4, metavar="N", help="requests at once, against 1 (4)")
    add("--seconds", type=float, default=30, metavar="S", help="for each row (30)")
    add("--own-prompts", action="store_true", help="each client looks for other words")
    add_json_argument(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prints a table."""
    given = parse_arguments(arguments)
    spawn = multiprocessing.get_context("spawn")
    image, servers, rows = photo(*given.image), {}, []
    try:
        for most in (1, given.batch):
            told, tells = spawn.Pipe(duplex=False)
            process = spawn.Process(target=run_server, args=(given, most, tells), daemon=True)
            process.start()
            tells.close()
            port, threads = told.recv()
            servers[most] = process, f"http://127.0.0.1:{port}"
        print(f"{processor_name()}, {threads} threads, {given.config_file}")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for _, address in servers.values():
            asyncio.run(measure(address, 2, 0.1, image, given.own_prompts))  # warms up
        for clients in given.clients:
            for most, (_, address) in servers.items():
                options = (clients, given.seconds, image, given.own_prompts)
                rows.append(row(clients, most, asyncio.run(measure(address, *options))))
                print(f"| {' | '.join(rows[-1])} |", flush=True)
        write_figures(given.json, {"columns": COLUMNS, "rows": rows})
    except EOFError:
        print("serving: the server could not begin, see above", file=sys.stderr)
        return 2
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
