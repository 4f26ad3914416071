"""A process that helps with a search. Imports nothing of Django before it is set up."""

from __future__ import annotations

import signal


def work(run_id: int) -> None:
    """Go on with the search until it is over or stopped. Ctrl-C is the parent's to answer: it stops the search."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import django  # noqa: PLC0415 - this process begins here

    django.setup()
    from algo.exchanges import CLOCK  # noqa: PLC0415 - as above
    from algo.models import OptimisationRun  # noqa: PLC0415 - as above
    from algo.services.optimisations import optimisation_open, optimisation_search  # noqa: PLC0415 - as above

    search = optimisation_open(OptimisationRun.objects.select_related("market").get(pk=run_id))
    optimisation_search(search, clock=CLOCK, halted=lambda: False)
