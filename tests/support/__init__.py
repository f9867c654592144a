"""What the tests are made of: real servers, real processes, real files, and a clock that obeys."""
