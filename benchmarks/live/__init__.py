"""The live platform under load, against the paper exchange over real sockets: `python -m benchmarks.live --json`."""
