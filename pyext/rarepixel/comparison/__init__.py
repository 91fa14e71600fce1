"""The same network trained with several losses, which are judged side by side."""
