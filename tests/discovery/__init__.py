"""Tests for L{twisted_rudp.discovery}."""
