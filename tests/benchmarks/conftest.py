"""Benchmarks time the package as its users run it: without the tests' checks of types."""

import jaxtyping

jaxtyping.config.update("jaxtyping_disable", True)
