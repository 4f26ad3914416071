"""The wire faces: each speaks one exchange's own HTTP, over the same venues."""
