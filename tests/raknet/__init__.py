"""Tests for L{twisted_rudp.raknet}."""
