"""Tests for L{twisted_rudp.mux}."""
