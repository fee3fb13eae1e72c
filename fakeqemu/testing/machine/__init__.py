"""`FakeQemu`, a running machine as a test holds it."""
