"""Run a bundle: sessions, the two inference libraries behind them, and dynamic batching."""
