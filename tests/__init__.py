"""The project's tests; a package, so that processes that they start find them before those of other projects."""
