"""Screens: each is HTML in regions and actions by name."""
