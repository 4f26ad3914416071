"""How gunicorn serves the pages: `gunicorn algo_trade.wsgi --config algo_trade/serving.py`, in the container and under
measurement (benchmarks/scale.py).

Making a page is work for a processor, so a process takes no more requests than it has threads, and what comes meanwhile
waits in the one queue of the socket, for whichever process is free first. A process that accepts whatever comes is soon
behind with five requests while its neighbour has one: half of the 95th percentiles were that. A connection that is kept
would hold its thread idle; the proxy in front keeps its own to the browser.

Two processors: more of them want more `--workers`, one and a half for each.
"""

worker_class = "gthread"
workers = 3
threads = 2
worker_connections = threads
keepalive = 0
