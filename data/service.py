"""Data servers: other machines with a tf.data service that decode and augment for this one."""

import contextlib
import socket
import threading
import time

import tensorflow as tf

from convzoo.errors import DataError

_TIMEOUT_SECONDS = 5.0


def parse_addresses(service):
    """Returns the addresses of `config.data.service` as a list of str `HOST:PORT`; empty for None.

    Args:
        service: str `HOST:PORT,HOST:PORT,...`, or None.

    Raises:
        DataError: An address is not HOST:PORT, or is repeated.
    """
    addresses = [address.strip() for address in service.split(",")] if service is not None else []
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise DataError(f"service={service!r}: {address!r} is not an address; use HOST:PORT,HOST:PORT,...")
    if len(set(addresses)) < len(addresses):
        raise DataError(f"service={service!r} names a server twice; name each once")
    return addresses


def is_reachable(address):
    """True if a server accepts connections at `HOST:PORT` within five seconds."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def unreachable_servers(service):
    """Returns the addresses of `config.data.service` at which no server answers, a list of str.

    Example:
        >>> unreachable_servers("localhost:1")
        ['localhost:1']
    """
    return [address for address in parse_addresses(service) if not is_reachable(address)]


def check_servers(service):
    """Raises DataError if a server of `config.data.service` does not answer.

    Example:
        >>> check_servers(None)
    """
    if unreachable := unreachable_servers(service):
        raise DataError(f"no data server answers at {', '.join(unreachable)}; start scripts/data_service.sh there")


def read_from_server(address, dataset):
    """Returns a tf.data.Dataset whose elements the server at `HOST:PORT`, which has one worker, produces."""
    return dataset.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.OFF,  # the only worker produces all elements
            service=f"grpc://{address}",
        )
    )


def read_from_servers(servers, parts, repeats):
    """Returns a tf.data.Dataset whose batches several servers produce.

    With K servers, server k produces part k: images k, k + K, k + 2K, ... of the stream. The interleaved parts are the
    batches that one process would produce, except that the next readable image of the same part replaces a corrupt one.

    Args:
        servers: list of K str `HOST:PORT`, each a dispatcher with one worker.
        parts: list of K tf.data.Datasets of batches with 1/K of the images each. They run in the servers, so they hold
            no Python state.
        repeats: Consecutive copies of each image.
    """
    parts = [read_from_server(address, part) for address, part in zip(servers, parts, strict=True)]
    if len(parts) == 1:
        return parts[0]

    def interleave(*tensors):
        size, *shape = tensors[0].shape
        images = [tf.reshape(tensor, [size // repeats, repeats, *shape]) for tensor in tensors]
        return tf.reshape(tf.stack(images, axis=1), [size * len(parts), *shape])

    return tf.data.Dataset.zip(tuple(parts)).map(
        lambda *batches: tf.nest.map_structure(interleave, *batches), num_parallel_calls=tf.data.AUTOTUNE
    )


@contextlib.contextmanager
def watch_servers(service, on_lost, seconds=60.0, pause=5.0):
    """Polls the data servers in a thread while a block runs; without a server, the training would hang.

    Args:
        service: As for `parse_addresses`.
        on_lost: Function of an address, called once, in the thread, when a server has not answered for `seconds`.
        seconds: Time without an answer after which a server is lost.
        pause: Seconds between polls.

    Example:
        >>> with watch_servers(None, on_lost=print):
        ...     print("training")
        training
    """
    servers = parse_addresses(service)
    is_done = threading.Event()
    last_answers = dict.fromkeys(servers, time.monotonic())

    def poll():
        while not is_done.wait(pause):
            for address in servers:
                if is_reachable(address):
                    last_answers[address] = time.monotonic()
                elif time.monotonic() - last_answers[address] > seconds:
                    on_lost(address)
                    return

    thread = threading.Thread(target=poll, daemon=True)
    if servers:
        thread.start()
    try:
        yield
    finally:
        is_done.set()
        if servers:
            thread.join()
