"""Captured datagrams of all wires, as a person would read them."""
