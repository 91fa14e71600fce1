"""The folder that nnU-Net searches: it imports every module in here, by its bare name."""
