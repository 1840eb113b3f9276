"""What the tests stand on: the broker's process, the clients, the wire, the test runner.

Data flows one way: `run.py` and `kill9.py` use `suites`, those use `support`, and nothing here
knows a single test.
"""
