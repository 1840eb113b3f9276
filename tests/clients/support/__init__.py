"""What the tests stand on: the broker's process, the clients, the wire, the test runner.

Data flows one way: `run.py` uses `suites`, they, `kill9.py` and `power_cut.py` use `support`, and
nothing here knows a single test.
"""
