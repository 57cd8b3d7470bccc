"""The Feast side of Portrait: what a feature repo of it declares, and how it is applied."""
