"""Layers that vectorise over replicas and give the same numbers on every device."""
