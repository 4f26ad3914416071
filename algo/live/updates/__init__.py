"""Live updates: what changed in the ledger and in prices, told to the pages that are open, over one connection each.

PostgreSQL (LiveChange, by triggers) -> relay -> a Redis stream -> follower -> hub -> clients (server-sent events)
the exchanges' streams -> Redis -> prices -> hub
"""
