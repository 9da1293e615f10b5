"""The wire rules that the client, the conformance kit and the server share: pure functions, no I/O."""
