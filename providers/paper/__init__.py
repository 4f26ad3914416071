"""The paper exchange: a simulated Wallex and Nobitex, with matching, balances and fees, behind their real wire formats.

`python -m providers.paper --port N --data-dir DIR` serves `/wallex`, `/nobitex` and `/paper` (the auditor's door).
"""
