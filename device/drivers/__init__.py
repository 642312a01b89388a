"""The sensor drivers: simulated, replay; catalog.py names them."""
