"""``make bench``: every loss against plain PyTorch, one small script a loss, one harness for all."""
