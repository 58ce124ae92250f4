"""tf.data services: other machines that decode and augment, so that the one with the accelerators need not."""

import contextlib
import socket
import threading
import time

import tensorflow as tf

from convzoo.data.errors import DataError

_SECONDS_TO_ANSWER = 5.0


def addresses(service):
    """The servers of `config.data.service`.

    Args:
        service: str, `HOST:PORT,HOST:PORT,...`, or None.

    Returns:
        list of str `HOST:PORT`; empty for None.

    Raises:
        DataError: an address is not HOST:PORT, or one stands there twice.
    """
    found = [address.strip() for address in service.split(",")] if service is not None else []
    for address in found:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise DataError(f"service {service!r}: {address!r} is no address; write HOST:PORT,HOST:PORT,...")
    if len(set(found)) < len(found):
        raise DataError(f"service {service!r} names a server twice; each has to be another one")
    return found


def answers(address):
    """bool, whether something listens at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except OSError:
        return False
    return True


def silent_servers(service):
    """The addresses of `config.data.service` at which nothing answers, a list of str."""
    return [address for address in addresses(service) if not answers(address)]


def check_servers(service):
    """Raise DataError if a server of `config.data.service` does not answer."""
    silent = silent_servers(service)
    if silent:
        raise DataError(f"no data server answers at {', '.join(silent)}; start scripts/data_service.sh there")


def through_server(address, dataset):
    """The elements of a tf.data.Dataset, made by the server at `HOST:PORT`, which has one worker."""
    return dataset.apply(
        tf.data.experimental.service.distribute(
            # Every worker makes all that it is given; there is one.
            processing_mode=tf.data.experimental.service.ShardingPolicy.OFF,
            service=f"grpc://{address}",
        )
    )


def through_servers(servers, make_part, repeats):
    """The elements of one data set, made by several servers.

    Server k of K makes the k-th of K parts: the pictures k, k + K, k + 2K, ... of the stream, in batches of a K-th of
    the size. Put together again in that order, they are the very batches that one process would have made; only what
    stands in for a broken picture is the next whole one of its own part.

    Args:
        servers: list of str `HOST:PORT`, each of one dispatcher with one worker.
        make_part: function of k to the tf.data.Dataset of batches of part k. It must hold nothing of Python's, because
            it runs in the server.
        repeats: int, how often each picture comes in a row.

    Returns:
        tf.data.Dataset of whole batches.
    """
    parts = [through_server(address, make_part(k)) for k, address in enumerate(servers)]
    if len(parts) == 1:
        return parts[0]

    def together(*of_parts):
        def one(*tensors):
            size, *shape = tensors[0].shape
            pictures = [tf.reshape(tensor, [size // repeats, repeats, *shape]) for tensor in tensors]
            return tf.reshape(tf.stack(pictures, axis=1), [size * len(parts), *shape])

        return tf.nest.map_structure(one, *of_parts)

    return tf.data.Dataset.zip(tuple(parts)).map(together, num_parallel_calls=tf.data.AUTOTUNE)


@contextlib.contextmanager
def watched_servers(service, lost, seconds=60.0, pause=5.0):
    """Looks after the servers while a block runs: a training whose server is gone would wait for ever.

    Args:
        service: str as for `addresses`, or None for none.
        lost: function of an address, called once, in a thread of its own, when that server has not answered for
            `seconds`.
        seconds: float, how long it may be silent.
        pause: float, seconds between two looks.
    """
    servers = addresses(service)
    over = threading.Event()
    heard = dict.fromkeys(servers, time.monotonic())

    def watch():
        while not over.wait(pause):
            for address in servers:
                if answers(address):
                    heard[address] = time.monotonic()
                elif time.monotonic() - heard[address] > seconds:
                    lost(address)
                    return

    thread = threading.Thread(target=watch, daemon=True)
    if servers:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if servers:
            thread.join()
