"""The build of a bad neighbour: every processor, memory and processes up to near a build's limits, and the disk, for ever."""

import os
import signal
import time

MEMORY_MIB = 1200
PROCESSES = 900
FILES_MIB = 64


def child(work):
    if os.fork() == 0:
        work()


def burn():
    while True:
        pass


def write():
    block = os.urandom(1 << 20)
    name = f"/app/written-{os.getpid()}"
    while True:
        with open(name, "wb") as file:
            for _ in range(FILES_MIB):
                file.write(block)
            os.fsync(file.fileno())


def main():
    for _ in range(PROCESSES):
        child(signal.pause)
    for _ in range(2 * os.cpu_count()):
        child(burn)
    for _ in range(2):
        child(write)
    # After the children, who would otherwise keep what they share of it when it is written to: twice as much.
    memory = bytearray(MEMORY_MIB << 20)
    print("at its limits", flush=True)
    while True:
        # Touched again and again, so that none of it is at rest.
        for page in range(0, len(memory), 4096):
            memory[page] = (memory[page] + 1) % 256
        time.sleep(0.1)


if __name__ == "__main__":
    main()
